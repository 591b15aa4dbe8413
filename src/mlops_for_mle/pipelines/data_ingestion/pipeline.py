"""Wiring of the pipeline data_ingestion."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.data_ingestion.nodes import to_contract, validate


def create_pipeline() -> Pipeline:
    """Source rows to the table of observations, its rejects and its ledger."""
    return Pipeline(
        [
            node(
                to_contract,
                inputs=["source_rows", "params:contract", "params:ingestion"],
                outputs=["contract_rows", "content_sha256"],
                name="to_contract",
            ),
            node(
                validate,
                inputs=["contract_rows", "content_sha256", "params:contract", "params:ingestion"],
                outputs="observations@batch",
                name="validate",
            ),
        ],
        tags="data_ingestion",
    )
