"""Wiring of the pipeline scoring."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.scoring.nodes import score_rows


def create_pipeline() -> Pipeline:
    """Rows of any source to predictions by the deployed release."""
    inputs = ["scoring_source", "scoring_release", "params:ingestion"]
    return Pipeline([node(score_rows, inputs, "scored_rows", name="score_rows")], tags="scoring")
