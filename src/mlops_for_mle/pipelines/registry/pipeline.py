"""Wiring of the pipeline registry."""

from typing import Any

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.registry.nodes import apply_gates, compare_models


def create_pipeline() -> Pipeline:
    """A logged candidate to a registered version and, if it passes, the alias champion."""
    steps: list[Any] = [
        (compare_models, ["candidate@logged", "incumbent", "params:gates"], "comparison"),
        (apply_gates, ["comparison", "params:gates"], "champion@decision"),
    ]
    return Pipeline([node(*step, name=step[0].__name__) for step in steps], tags="registry")
