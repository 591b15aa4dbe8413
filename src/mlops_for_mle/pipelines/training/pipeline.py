"""Wiring of the pipeline training."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.training import nodes


def create_pipeline() -> Pipeline:
    """The table of observations to a logged candidate."""
    return Pipeline(
        [
            node(
                nodes.take_snapshot,
                inputs=["observations@window", "params:contract"],
                outputs="snapshot",
                name="take_snapshot",
            ),
            node(
                nodes.check_snapshot,
                inputs=["snapshot", "params:contract", "params:data_checks"],
                outputs="data_quality",
                name="check_snapshot",
            ),
            node(
                nodes.admit_snapshot,
                inputs=["snapshot", "data_quality"],
                outputs="admitted_snapshot",
                name="admit_snapshot",
            ),
            node(
                nodes.split_snapshot,
                inputs=["admitted_snapshot", "params:contract", "params:training"],
                outputs=["training_rows", "validation_rows"],
                name="split_snapshot",
            ),
            node(
                nodes.train_model,
                inputs=["training_rows", "params:contract", "params:training"],
                outputs=["model", "model_parameters"],
                name="train_model",
            ),
            node(
                nodes.evaluate_model,
                inputs=["model", "training_rows", "validation_rows", "params:contract"],
                outputs="metrics",
                name="evaluate_model",
            ),
            node(
                nodes.export_model,
                inputs=["model", "admitted_snapshot", "params:contract"],
                outputs="onnx_export",
                name="export_model",
            ),
            node(
                nodes.draw_plots,
                inputs=["model", "validation_rows", "params:contract"],
                outputs=["confusion_matrix", "class_report"],
                name="draw_plots",
            ),
            node(
                nodes.assemble_candidate,
                inputs=[
                    "model",
                    "model_parameters",
                    "onnx_export",
                    "metrics",
                    "snapshot",
                    "validation_rows",
                    "params:contract",
                    "params:training",
                ],
                outputs="candidate@trained",
                name="assemble_candidate",
            ),
        ],
        tags="training",
    )
