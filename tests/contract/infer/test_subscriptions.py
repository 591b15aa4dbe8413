"""The example table of subscriptions, as its contract describes it."""

import pandas as pd
import pytest
import yaml

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.infer.propose import Proposal, propose
from mlops_for_mle.pipelines.data_ingestion.sources import FileSourceDataset
from tests.conftest import PROJECT
from tests.integration.observations import batch_of

TABLE = PROJECT / "data/01_raw/subscriptions.csv"


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return FileSourceDataset("csv", str(TABLE)).load()


@pytest.fixture(scope="module")
def shipped() -> Contract:
    path = PROJECT / "conf/subscriptions/contract.yml"
    return Contract.model_validate(yaml.safe_load(path.read_text("utf-8"))["contract"])


@pytest.fixture(scope="module")
def proposed(rows: pd.DataFrame) -> Proposal:
    return propose(rows, "subscriptions", "해지", TABLE.name)


def test_the_shipped_contract_is_the_proposed_one_reviewed(
    shipped: Contract, proposed: Proposal
) -> None:
    found = proposed.contract()

    assert shipped.feature_names == found.feature_names
    for name, feature in shipped.features.items():
        assert feature.missing == found.features[name].missing
        assert feature.categories == found.features[name].categories
    assert shipped.target.class_values == found.target.class_values
    assert [one.source_name for one in proposed.left_out] == ["고객번호", "해지일"]


def test_the_shipped_contract_accepts_every_row(rows: pd.DataFrame, shipped: Contract) -> None:
    batch = batch_of(shipped, rows)

    assert batch.rejected.empty
    assert len(batch.accepted) == 600
