"""Wiring of the pipelines monitoring and retrain."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.monitoring.checks import (
    check_calibration,
    check_data_quality,
    check_drift,
    check_performance,
)
from mlops_for_mle.pipelines.monitoring.judgement import judge
from mlops_for_mle.pipelines.monitoring.record import summarise
from mlops_for_mle.pipelines.monitoring.reference import describe_reference
from mlops_for_mle.pipelines.monitoring.report import write_report
from mlops_for_mle.pipelines.monitoring.retraining import (
    admit_champion,
    choose_rows,
    conclude_decision,
    decide_on_retraining,
)
from mlops_for_mle.pipelines.monitoring.window import count_window

_COUNTED = ["reference", "window", "params:monitoring"]


def create_pipeline() -> Pipeline:
    """The deployed release and its predictions to a recorded run, a report and a decision."""
    return Pipeline(
        [
            node(describe_reference, ["deployed_release", "params:monitoring"], "reference"),
            node(count_window, ["reference", "prediction_log", "params:monitoring"], "window"),
            node(check_data_quality, _COUNTED, "quality_checks"),
            node(check_drift, _COUNTED, "drift_checks"),
            node(check_performance, _COUNTED, "performance_checks"),
            node(check_calibration, _COUNTED, "calibration_checks"),
            node(
                judge,
                [
                    *("reference", "window", "performance_checks", "drift_checks"),
                    *("quality_checks", "calibration_checks", "params:monitoring"),
                ],
                "monitoring_runs",
            ),
            node(write_report, ["monitoring_runs", *_COUNTED], "monitoring_report"),
            node(summarise, "monitoring_runs", "summary"),
            node(
                decide_on_retraining,
                [
                    *("monitoring_runs", "monitoring_history"),
                    *("params:monitoring", "params:retraining"),
                ],
                "retraining_decision",
            ),
        ],
        tags="monitoring",
    )


def create_retraining_pipeline(
    training: Pipeline, registry: Pipeline, deployment: Pipeline
) -> Pipeline:
    """An open decision to a new candidate, on through the gates, and to the decision's end.

    Args:
        training: Is given other rows here.
        registry: Tags the candidate's version with what the gates say.
        deployment: Is given the champion only where the candidate has become it.
    """
    first = node(
        choose_rows,
        [
            *("open_decision", "prediction_log", "observations@window", "params:contract"),
            *("params:retraining", "params:data_checks.minimum_rows_per_class"),
        ],
        "retraining_rows",
    )
    admit = node(
        admit_champion,
        ["open_decision", "champion@verdict", "deployed_at", "champion@release"],
        "admitted_champion",
    )
    last = node(
        conclude_decision,
        ["open_decision", "champion@verdict", "deployments"],
        "retraining_outcome",
    )
    return (
        Pipeline([first, admit, last], tags="retraining")
        + Pipeline(training, inputs={"observations@window": "retraining_rows"})
        + registry
        + Pipeline(deployment, inputs={"champion@release": "admitted_champion"})
    )
