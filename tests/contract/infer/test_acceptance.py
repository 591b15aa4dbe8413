"""The law of the inference: the contract of a table accepts that table."""

from typing import Any

import numpy as np
import pandas as pd
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.infer.propose import propose
from mlops_for_mle.errors import SourceError
from mlops_for_mle.pipelines.data_ingestion.sources import FileSourceDataset
from tests.conftest import PROJECT
from tests.contract.infer.tables import ROWS, infer, ingest
from tests.pipelines.data_ingestion.observations import batch_of


def columns_of(values: "st.SearchStrategy[Any]") -> "st.SearchStrategy[list[Any]]":
    return st.lists(values, min_size=ROWS, max_size=ROWS)


def repeated(values: "st.SearchStrategy[Any]") -> "st.SearchStrategy[list[Any]]":
    """Few different values, each of them often."""
    return st.lists(values, min_size=2, max_size=5, unique=True).flatmap(
        lambda few: columns_of(st.sampled_from(few))
    )


FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
DATES = st.dates(pd.Timestamp("1900-01-01").date(), pd.Timestamp("2100-01-01").date())
TIMES = st.datetimes(pd.Timestamp("1900-01-01"), pd.Timestamp("2100-01-01"))

COLUMNS = st.one_of(
    columns_of(FLOATS),
    columns_of(st.one_of(st.just(np.nan), FLOATS)),
    columns_of(st.integers(-(2**53) + 1, 2**53 - 1)),
    columns_of(st.booleans()),
    columns_of(DATES),
    columns_of(TIMES),
    repeated(TEXTS),
    repeated(st.integers(0, 9)),
)


@given(COLUMNS, COLUMNS, repeated(TEXTS), st.booleans())
def test_any_table_that_is_not_refused_is_accepted_whole(
    first: list[Any], second: list[Any], target: list[str], as_text: bool
) -> None:
    rows = pd.DataFrame({"a b": first, "select": second, "y": target})
    if as_text:
        rows = rows.astype(str).replace({"nan": "", "NaT": "", "None": ""})
    try:
        proposal = infer(rows)
    except (SourceError, ValidationError):
        assume(False)
    batch = ingest(rows, proposal)

    without_outcome = np.flatnonzero(proposal.target.values.isna()) + 1
    assert batch.rejected["row_number"].tolist() == without_outcome.tolist()


def test_the_contract_of_subscriptions_is_the_proposed_one_and_accepts_every_row() -> None:
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
    assert [one.name for one in proposed.left_out] == ["고객번호", "해지일"]
    assert len(batch_of(shipped, rows).accepted) == 600
