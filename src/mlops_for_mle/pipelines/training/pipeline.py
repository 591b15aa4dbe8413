"""Wiring of the pipeline training."""

from typing import Any

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.training import nodes


def create_pipeline() -> Pipeline:
    """The table of observations to a logged candidate; each step is called like its function."""
    contract, training, metric = "params:contract", "params:training", "params:gates.metric"
    steps: list[Any] = [
        (nodes.take_snapshot, ["observations@window", contract], "snapshot"),
        (
            nodes.prepare_examples,
            ["snapshot", contract, training, "params:data_checks"],
            ["examples", "validation_rows", "data_quality"],
        ),
        (nodes.train_model, ["examples", training, metric], "trained"),
        (nodes.evaluate_model, "trained", "metrics"),
        (nodes.draw_plots, "trained", ["confusion_matrix", "class_report"]),
        (
            nodes.assemble_candidate,
            ["trained", "metrics", "data_quality"],
            ["candidate@trained", "feature_importance"],
        ),
    ]
    return Pipeline([node(*step, name=step[0].__name__) for step in steps], tags="training")
