"""Wiring of the pipeline registry."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.registry.nodes import apply_gates, compare_models


def create_pipeline() -> Pipeline:
    """A logged candidate to a registered version and, if it passes, the alias champion."""
    return Pipeline(
        [
            node(
                compare_models,
                ["candidate@logged", "incumbent"],
                "comparison",
                name="compare_models",
            ),
            node(
                apply_gates, ["comparison", "params:gates"], "champion@decision", name="apply_gates"
            ),
        ],
        tags="registry",
    )
