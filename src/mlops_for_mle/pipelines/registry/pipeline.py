"""Wiring of the pipeline registry."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.registry import nodes


def create_pipeline() -> Pipeline:
    """A logged candidate to a registered version and, if it passes, the alias champion."""
    return Pipeline(
        [
            node(
                nodes.register_candidate,
                inputs="candidate@logged",
                outputs="model_version",
                name="register_candidate",
            ),
            node(
                nodes.confirm_metrics,
                inputs=["model_version", "params:contract"],
                outputs=["confirmed_version", "candidate_metrics"],
                name="confirm_metrics",
            ),
            node(
                nodes.decide,
                inputs=[
                    "confirmed_version",
                    "candidate_metrics",
                    "incumbent",
                    "params:contract",
                    "params:gates",
                ],
                outputs="champion@decision",
                name="decide",
            ),
        ],
        tags="registry",
    )
