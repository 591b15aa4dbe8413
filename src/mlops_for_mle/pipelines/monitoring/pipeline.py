"""Wiring of the pipeline monitoring."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.monitoring import nodes

_MEASURED = ["reference_profile", "window_counts", "params:monitoring"]


def create_pipeline() -> Pipeline:
    """The deployed release and its predictions to a recorded run and a report."""
    return Pipeline(
        [
            node(
                nodes.describe_reference,
                inputs=["monitored_release", "params:monitoring"],
                outputs="reference_profile",
                name="describe_reference",
            ),
            node(
                nodes.plan_window,
                inputs=["reference_profile", "params:monitoring"],
                outputs="prediction_window",
                name="plan_window",
            ),
            node(
                nodes.take_counts,
                inputs="prediction_window",
                outputs="window_counts",
                name="count_window",
            ),
            node(
                nodes.check_data_quality,
                inputs=_MEASURED,
                outputs="quality_findings",
                name="check_data_quality",
            ),
            node(
                nodes.check_drift,
                inputs=_MEASURED,
                outputs="drift_findings",
                name="check_drift",
            ),
            node(
                nodes.check_performance,
                inputs=_MEASURED,
                outputs="performance_findings",
                name="check_performance",
            ),
            node(
                nodes.check_calibration,
                inputs=_MEASURED,
                outputs="calibration_findings",
                name="check_calibration",
            ),
            node(
                nodes.judge,
                inputs=[
                    "reference_profile",
                    "window_counts",
                    "performance_findings",
                    "drift_findings",
                    "quality_findings",
                    "calibration_findings",
                    "params:monitoring",
                ],
                outputs="monitoring_runs",
                name="judge",
            ),
            node(
                nodes.write_report,
                inputs=[
                    "monitoring_runs",
                    "reference_profile",
                    "window_counts",
                    "params:monitoring",
                ],
                outputs="monitoring_report",
                name="write_report",
            ),
        ],
        tags="monitoring",
    )
