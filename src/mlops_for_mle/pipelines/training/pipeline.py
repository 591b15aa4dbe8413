"""Wiring of the pipeline training."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.training.nodes import (
    assemble_candidate,
    check_snapshot,
    draw_plots,
    evaluate_model,
    export_model,
    split_snapshot,
    take_snapshot,
    train_model,
)


def create_pipeline() -> Pipeline:
    """The table of observations to a logged candidate."""
    return Pipeline(
        [
            node(
                take_snapshot,
                ["observations@window", "params:contract"],
                "snapshot",
                name="take_snapshot",
            ),
            node(
                check_snapshot,
                ["snapshot", "params:contract", "params:data_checks"],
                ["checked_examples", "data_quality"],
                name="check_snapshot",
            ),
            node(
                split_snapshot,
                ["checked_examples", "params:training"],
                ["examples", "validation_rows"],
                name="split_snapshot",
            ),
            node(train_model, ["examples", "params:training"], "fitted", name="train_model"),
            node(export_model, "fitted", "trained", name="export_model"),
            node(evaluate_model, "trained", "metrics", name="evaluate_model"),
            node(draw_plots, "trained", ["confusion_matrix", "class_report"], name="draw_plots"),
            node(
                assemble_candidate,
                ["trained", "metrics"],
                "candidate@trained",
                name="assemble_candidate",
            ),
        ],
        tags="training",
    )
