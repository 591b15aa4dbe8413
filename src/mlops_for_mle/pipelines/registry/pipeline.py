"""Wiring of the pipeline registry."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.registry.nodes import compare_models


def create_pipeline() -> Pipeline:
    """A logged candidate to a registered version and, if it passes, the alias champion."""
    inputs = ["candidate@logged", "incumbent", "params:gates"]
    decision = node(compare_models, inputs, "champion@decision", name="compare_models")
    return Pipeline([decision], tags="registry")
