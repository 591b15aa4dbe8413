"""Wiring of the pipeline data_ingestion."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.data_ingestion.nodes import to_contract, validate


def create_pipeline() -> Pipeline:
    """Source rows to the table of observations, its rejects and its ledger."""
    options = ["params:contract", "params:ingestion"]
    rows = ["contract_rows", "content_sha256", "unread_rows"]
    return Pipeline(
        [
            node(to_contract, ["source_rows", *options], rows, name="to_contract"),
            node(validate, [*rows, *options], "observations@batch", name="validate"),
        ],
        tags="data_ingestion",
    )
