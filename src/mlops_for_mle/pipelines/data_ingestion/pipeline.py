"""Wiring of the pipeline data_ingestion."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.data_ingestion.nodes import sort_rows, standardise_columns


def create_pipeline() -> Pipeline:
    """Source rows to the table of observations, its rejects and its ledger."""
    return Pipeline(
        [
            node(
                standardise_columns,
                inputs=["source_rows", "params:contract", "params:ingestion"],
                outputs="standardised_rows",
                name="standardise_columns",
            ),
            node(
                sort_rows,
                inputs=["standardised_rows", "params:contract", "params:ingestion"],
                outputs="observations@batch",
                name="sort_rows",
            ),
        ],
        tags="data_ingestion",
    )
