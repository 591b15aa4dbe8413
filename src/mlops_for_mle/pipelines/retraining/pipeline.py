"""Wiring of the decision on retraining and of the retraining itself."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.retraining import nodes


def create_decision_pipeline() -> Pipeline:
    """A monitoring run to a recorded decision."""
    return Pipeline(
        [
            node(
                nodes.decide,
                inputs=["monitoring_runs", "monitoring_history", "params:retraining"],
                outputs="retraining_decision",
                name="decide_on_retraining",
            ),
        ],
        tags="monitoring",
    )


def create_retraining_pipeline(training: Pipeline, others: Pipeline) -> Pipeline:
    """Labelled predictions to a new candidate, and on through the gates.

    Args:
        training: The pipeline training, which is given other rows here.
        others: What follows it.
    """
    rows = node(
        nodes.choose_rows,
        inputs=[
            "labelled_predictions",
            "observations@window",
            "params:contract",
            "params:retraining",
            "params:data_checks",
        ],
        outputs="retraining_rows",
        name="choose_rows",
        tags="retraining",
    )
    retrained = Pipeline(training, inputs={"observations@window": "retraining_rows"})
    return Pipeline([rows]) + retrained + others
