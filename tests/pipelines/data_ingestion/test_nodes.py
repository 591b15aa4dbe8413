"""The nodes of ingestion: whatever a source gives is accepted or rejected with a reason."""

import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import check_columns
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.data_ingestion.nodes import Batch, IngestionOptions, to_contract
from tests.pipelines.data_ingestion.observations import batch_of
from tests.releases import SMALL_CONTRACT

OPTIONS = IngestionOptions(source="test")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CELLS = (
    TEXT
    | st.floats().map(str)
    | st.integers(-(10**25), 10**25).map(str)
    | st.datetimes().map(str)
    | st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat())
    | st.from_regex(r"[+-]?[0-9]{1,6}-[0-9]{2}-[0-9]{2}(T[0-9:.]{0,20}Z?)?", fullmatch=True)
    | st.sampled_from(
        ["", " ", "1", "0", "nan", "inf", "-inf", "None", "<NA>", "NaT", "now", "1e400"]
    )
)
COLUMNS = ["width", "count", "kind", "timestamp"]
GOOD = {"width": "1.5", "count": "3", "kind": "1", "timestamp": "2024-02-29T10:00:00+09:00"}
ONE_ROW = pd.DataFrame([GOOD])


def validated(rows: list[Any]) -> Batch:
    return batch_of(SMALL_CONTRACT, pd.DataFrame(rows, columns=COLUMNS, dtype=object))


@settings(max_examples=10)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=8))
def test_any_text_is_accepted_by_the_contract_or_rejected_with_a_reason(rows):
    """Whatever rows stand beside it."""
    batch = validated(rows)

    assert len(batch.accepted) + len(batch.rejected) == len(rows)
    assert batch.rejected["reason"].str.len().gt(0).all()
    for row in batch.rejected.itertuples():
        read = dict(zip(COLUMNS, rows[row.row_number - 1], strict=True))
        assert json.loads(row.row_data) == {
            name: value.replace("\x00", "\ufffd") for name, value in read.items()
        }
    assert check_columns(batch.accepted, SMALL_CONTRACT.columns)[1] == {}
    assert batch.accepted["timestamp"].dropna().dt.year.between(1, 9999).all()
    alone = [number for number, row in enumerate(rows, 1) if len(validated([row]).rejected)]
    assert batch.rejected["row_number"].tolist() == alone


@pytest.mark.parametrize(("bad_count", "accepted"), [(2, 2), (3, 0)])
def test_too_many_bad_rows_hold_the_whole_batch_back(bad_count, accepted):
    rows = pd.DataFrame([GOOD | {"width": "99"}] * bad_count + [GOOD] * (4 - bad_count))

    batch = batch_of(SMALL_CONTRACT, rows, tolerated=0.5)

    assert len(batch.accepted) == accepted
    if not accepted:
        share = "3 of 4 rows of this batch are bad, so all were held back"
        assert batch.rejected["reason"].iloc[-1] == f"batch: {share}"
        assert batch.remark.startswith(f"{share}, such as row 1: width: is too large, found '99'")


def test_rows_are_the_same_batch_whatever_the_contract_asks_of_them():
    rows, raw = ONE_ROW.assign(note="x"), SMALL_CONTRACT.model_dump()
    other = Contract.model_validate(raw | {"features": {"count": {"type": "integer"}, "note": {}}})

    first, second, third, changed = (
        to_contract(given, contract, OPTIONS)[1]
        for given, contract in (
            (rows, SMALL_CONTRACT),
            (rows, other),
            (rows.set_axis([7]), other),
            (rows.assign(note="y"), SMALL_CONTRACT),
        )
    )

    assert first == second == third != changed


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ONE_ROW[["count"]], r"missing column\(s\) width, kind; found 'count'"),
        (ONE_ROW.head(0), "has no rows"),
        (pd.concat([ONE_ROW, ONE_ROW[["timestamp"]]], axis=1), r"column\(s\) timestamp twice"),
    ],
)
def test_a_table_that_cannot_be_the_contracts_is_refused(rows, message):
    with pytest.raises(UserError, match=f"Source test: {message}"):
        to_contract(rows, SMALL_CONTRACT, OPTIONS)
