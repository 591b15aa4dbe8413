"""The example table of subscriptions, as its contract describes it."""

import yaml

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.infer.propose import propose
from mlops_for_mle.pipelines.data_ingestion.sources import FileSourceDataset
from tests.conftest import PROJECT
from tests.pipelines.data_ingestion.observations import batch_of


def test_the_shipped_contract_is_the_proposed_one_reviewed_and_accepts_every_row() -> None:
    rows = FileSourceDataset("csv", str(PROJECT / "data/01_raw/subscriptions.csv")).load()
    path = PROJECT / "conf/subscriptions/contract.yml"
    shipped = Contract.model_validate(yaml.safe_load(path.read_text("utf-8"))["contract"])

    proposed = propose(rows, "subscriptions", "해지", "subscriptions.csv")

    found = proposed.contract()
    assert shipped.feature_names == found.feature_names
    for name, feature in shipped.features.items():
        assert feature.missing == found.features[name].missing
        assert feature.categories == found.features[name].categories
    assert shipped.target.class_values == found.target.class_values
    assert [one.source_name for one in proposed.left_out] == ["고객번호", "해지일"]
    assert len(batch_of(shipped, rows).accepted) == 600
