"""Wiring of the pipeline training."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.training import nodes


def create_pipeline() -> Pipeline:
    """The table of observations to a logged candidate."""
    return Pipeline(
        [
            node(
                nodes.take_snapshot,
                ["observations@window", "params:contract"],
                "snapshot",
                name="take_snapshot",
            ),
            node(
                nodes.check_snapshot,
                ["snapshot", "params:contract", "params:data_checks"],
                ["checked_examples", "data_quality"],
                name="check_snapshot",
            ),
            node(
                nodes.split_snapshot,
                ["checked_examples", "params:training"],
                ["examples", "validation_rows"],
                name="split_snapshot",
            ),
            node(nodes.train_model, ["examples", "params:training"], "fitted", name="train_model"),
            node(nodes.export_model, "fitted", "trained", name="export_model"),
            node(nodes.evaluate_model, "trained", "metrics", name="evaluate_model"),
            node(
                nodes.draw_plots,
                "trained",
                ["confusion_matrix", "class_report"],
                name="draw_plots",
            ),
            node(
                nodes.assemble_candidate,
                ["trained", "metrics"],
                "candidate@trained",
                name="assemble_candidate",
            ),
        ],
        tags="training",
    )
