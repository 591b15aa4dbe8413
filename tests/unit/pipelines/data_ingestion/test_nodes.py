import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_for_mle.column_values import with_contract_types
from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import SourceError
from mlops_for_mle.pipelines.data_ingestion.nodes import sort_rows, standardise_columns
from mlops_for_mle.validation import contract_schema
from tests.unit.conftest import (
    IRIS_CONTRACT,
    LINE_CONTRACT,
    SMALL_CONTRACT,
    ingestion_options,
    iris_rows,
)

OPTIONS = ingestion_options()
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
ANY_ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=8)
COLUMNS = ["width", "count", "kind", "timestamp"]
GOOD = {"width": "1.5", "count": "3", "kind": "1", "timestamp": "2024-02-29T10:00:00+09:00"}


def table(rows: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def one_row(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame([GOOD | changes])


@settings(max_examples=20)
@given(ANY_ROWS)
def test_any_text_is_accepted_by_the_contract_or_rejected_with_a_reason(rows: list[Any]) -> None:
    batch = sort_rows(table(rows), SMALL_CONTRACT, OPTIONS)

    assert len(batch.accepted) + len(batch.rejected) == len(rows)
    assert batch.rejected["reason"].str.len().gt(0).all()
    contract_schema(SMALL_CONTRACT).validate(batch.accepted, lazy=True)
    assert batch.accepted["timestamp"].dropna().dt.year.between(1, 9999).all()


@settings(max_examples=6)
@given(ANY_ROWS)
def test_a_rejected_row_is_kept_as_it_was_read_under_its_number(rows: list[Any]) -> None:
    rejected = sort_rows(table(rows), SMALL_CONTRACT, OPTIONS).rejected

    assert rejected["row_number"].is_monotonic_increasing
    for row in rejected.itertuples():
        assert json.loads(row.row_data) == dict(zip(COLUMNS, rows[row.row_number - 1], strict=True))


@settings(max_examples=5)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=2, max_size=4))
def test_the_verdict_on_a_row_does_not_depend_on_the_rows_beside_it(rows: list[Any]) -> None:
    together = sort_rows(table(rows), SMALL_CONTRACT, OPTIONS).rejected
    alone = [
        number
        for number, row in enumerate(rows, start=1)
        if len(sort_rows(table([row]), SMALL_CONTRACT, OPTIONS).rejected)
    ]

    assert together["row_number"].tolist() == alone


@settings(max_examples=6)
@given(ANY_ROWS, st.integers(1, 1000))
def test_the_digest_is_that_of_the_rows_whatever_their_index(rows: list[Any], start: int) -> None:
    read = table(rows)
    shifted = read.set_axis(range(start, start + len(rows)))

    one, other = (
        sort_rows(standardise_columns(frame, SMALL_CONTRACT, OPTIONS), SMALL_CONTRACT, OPTIONS)
        for frame in (read, shifted)
    )

    assert one.content_sha256 == other.content_sha256
    pd.testing.assert_frame_equal(one.accepted, other.accepted)
    pd.testing.assert_frame_equal(one.rejected, other.rejected)


@settings(max_examples=8)
@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_exactly_the_bad_rows_are_rejected(is_bad: list[bool]) -> None:
    rows = pd.DataFrame([GOOD | ({"width": "99"} if bad else {}) for bad in is_bad])

    batch = sort_rows(rows, SMALL_CONTRACT, OPTIONS)

    assert batch.rejected["row_number"].tolist() == [
        number for number, bad in enumerate(is_bad, start=1) if bad
    ]


def test_a_good_row_gets_the_types_of_the_contract_and_its_time_in_utc() -> None:
    accepted = sort_rows(one_row(), SMALL_CONTRACT, OPTIONS).accepted

    assert accepted.to_dict("records") == [
        {"width": 1.5, "count": 3, "kind": 1, "timestamp": pd.Timestamp("2024-02-29 01:00")}
    ]
    assert accepted.dtypes[["width", "count", "kind"]].tolist() == ["float64", "int64", "int64"]


def test_the_whole_iris_table_is_accepted_unchanged() -> None:
    rows = iris_rows()

    batch = sort_rows(rows, IRIS_CONTRACT, OPTIONS)

    assert batch.rejected.empty
    pd.testing.assert_frame_equal(batch.accepted, rows, check_dtype=False)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("width", "wide", "width: not a number: 'wide'"),
        ("width", "1,5", "width: not a number: '1,5'"),
        ("width", "NaN", "width: not a number: 'NaN'"),
        ("width", "  ", "width: is missing"),
        ("width", None, "width: is missing"),
        ("width", "inf", "width: is not finite, found inf; width: is above 10, found inf"),
        ("width", "-0.5", "width: is below 0, found -0.5"),
        ("count", "2.5", "count: is no whole number, found 2.5"),
        ("count", "9007199254740993", "count: is too large to be kept exactly"),
        ("count", "-1e25", "count: is too large to be kept exactly"),
        ("count", "1e400", "count: is not finite, found inf"),
        ("kind", "2", "kind: is none of 0 (no), 1 (yes), found 2"),
        ("kind", "0.5", "kind: is none of 0 (no), 1 (yes), found 0.5"),
        ("timestamp", "yesterday", "timestamp: no ISO 8601 time"),
        ("timestamp", "now", "timestamp: no ISO 8601 time"),
        ("timestamp", "2023-02-29", "timestamp: no ISO 8601 time"),
        ("timestamp", "0001-01-01T00:00+10:00", "timestamp: no ISO 8601 time"),
        ("timestamp", "9999-12-31T23:00-10:00", "timestamp: no ISO 8601 time"),
    ],
)
def test_a_bad_value_is_rejected_with_its_column_reason_and_value(
    column: str, value: str | None, reason: str
) -> None:
    rejected = sort_rows(one_row(**{column: value}), SMALL_CONTRACT, OPTIONS).rejected

    assert rejected["reason"].tolist()[0].startswith(reason)


def test_all_reasons_of_a_row_are_told() -> None:
    rejected = sort_rows(one_row(width="99", kind="x", count=""), SMALL_CONTRACT, OPTIONS).rejected

    assert rejected["reason"].tolist() == [
        "count: is missing; kind: not a number: 'x'; width: is above 10, found 99"
    ]


def test_a_row_without_time_is_accepted() -> None:
    accepted = sort_rows(one_row(timestamp=""), SMALL_CONTRACT, OPTIONS).accepted

    assert accepted["timestamp"].isna().tolist() == [True]


def test_times_finer_than_a_microsecond_are_cut_not_refused() -> None:
    rows = pd.DataFrame(
        [GOOD | {"timestamp": "2024-01-01T00:00:00.123456789"}, GOOD | {"timestamp": "9999-12-31"}]
    )

    accepted = sort_rows(rows, SMALL_CONTRACT, OPTIONS).accepted

    assert accepted["timestamp"].dt.microsecond.tolist() == [123456, 0]


@pytest.mark.parametrize(("bad_count", "accepted"), [(2, 2), (3, 0)])
def test_too_many_bad_rows_hold_the_whole_batch_back(bad_count: int, accepted: int) -> None:
    rows = pd.DataFrame([GOOD | {"width": "99"}] * bad_count + [GOOD] * (4 - bad_count))

    batch = sort_rows(rows, SMALL_CONTRACT, ingestion_options(maximum_rejected_fraction=0.5))

    assert len(batch.accepted) == accepted
    if not accepted:
        assert batch.rejected["reason"].iloc[-1] == (
            "batch: 3 of 4 rows of this batch are bad, so all were held back"
        )


@pytest.mark.parametrize(
    "value", [np.float64(np.inf), np.float64(np.nan), np.int64(99), True, pd.NaT, 99.5]
)
def test_a_typed_bad_value_is_kept_as_json(value: Any) -> None:
    rows = pd.DataFrame({"a": pd.Series([value], dtype=object), "b": [np.nan], "y": [1.0]})

    rejected = sort_rows(rows, LINE_CONTRACT, OPTIONS).rejected

    assert set(json.loads(rejected["row_data"][0])) == {"a", "b", "y"}


def test_columns_get_the_contracts_names_and_order_and_others_are_left_out() -> None:
    rows = pd.DataFrame({"note": ["x"], "kind": ["1"], "Width (m)": ["2"], "count": ["3"]})
    options = ingestion_options(rename={"Width (m)": "width", "absent": "also absent"})

    found = standardise_columns(rows, SMALL_CONTRACT, options)

    assert found.to_dict("records") == [{"width": "2", "count": "3", "kind": "1"}]
    assert list(found.columns) == ["width", "count", "kind"]


def test_a_time_is_taken_along_when_the_source_has_one() -> None:
    assert list(standardise_columns(one_row(), SMALL_CONTRACT, OPTIONS).columns) == COLUMNS


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            one_row().drop(columns=["kind", "width"]),
            r"missing column\(s\) width, kind; found 'count'",
        ),
        (pd.DataFrame(), r"missing column\(s\) width, count, kind; found none"),
        (one_row().head(0), "has no rows"),
        (
            pd.DataFrame([["1", "2", "3", "0"]], columns=["width", "count", "width", "kind"]),
            r"column\(s\) width twice",
        ),
    ],
)
def test_a_table_that_cannot_be_the_contracts_is_refused(rows: pd.DataFrame, message: str) -> None:
    with pytest.raises(SourceError, match=f"Source test: {message}"):
        standardise_columns(rows, SMALL_CONTRACT, OPTIONS)


def test_two_times_in_one_table_are_refused() -> None:
    rows = pd.concat([one_row(), one_row()[["timestamp"]]], axis=1)

    with pytest.raises(SourceError, match=r"column\(s\) timestamp twice"):
        standardise_columns(rows, SMALL_CONTRACT, OPTIONS)


def test_a_column_may_be_called_like_an_argument_of_pandas() -> None:
    contract = Contract.model_validate(
        {
            "name": "odd",
            "table": "odd",
            "features": {"self": {}},
            "target": {"column": "y", "task": "regression", "response_name": "found"},
        }
    )

    rows = with_contract_types(pd.DataFrame({"self": [1], "y": [2]}), contract)

    assert rows.dtypes.astype(str).to_dict() == {"self": "float64", "y": "float64"}


@pytest.mark.filterwarnings("error")
def test_a_table_of_many_columns_is_read_without_a_warning() -> None:
    names = [f"column {number}" for number in range(300)]
    raw = LINE_CONTRACT.model_dump() | {"features": {name: {} for name in names}}
    rows = pd.DataFrame({name: ["1.5", "2"] for name in [*names, "y"]})

    batch = sort_rows(rows, Contract.model_validate(raw), OPTIONS)

    assert batch.accepted.shape == (2, 301)
