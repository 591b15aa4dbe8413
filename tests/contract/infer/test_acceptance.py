"""The law of the inference: the contract of a table accepts that table."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_for_mle.contract.infer.propose import Proposal, propose
from mlops_for_mle.errors import SourceError
from mlops_for_mle.pipelines.data_ingestion.nodes import Batch
from tests.mixed_rows import TARGET, mixed_rows
from tests.pipelines.data_ingestion.observations import batch_of

ROWS = 40


def ingest(rows: pd.DataFrame, proposal: Proposal) -> Batch:
    """What ingestion does with the rows, with the options that the inference writes."""
    return batch_of(proposal.contract(), rows, **proposal.ingestion)


def assert_accepted(rows: pd.DataFrame, target: str) -> None:
    batch = ingest(rows, propose(rows, "things", target, "things.csv"))

    assert batch.rejected["reason"].tolist() == []
    assert len(batch.accepted) == len(rows)


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


@settings(deadline=None, derandomize=True, database=None)
@given(COLUMNS, COLUMNS, repeated(TEXTS), st.booleans())
def test_any_table_that_is_not_refused_is_accepted_whole(
    first: list[Any], second: list[Any], target: list[str], as_text: bool
) -> None:
    rows = pd.DataFrame({"a b": first, "select": second, "y": target})
    if as_text:
        rows = rows.astype(str).replace({"nan": "", "NaT": "", "None": ""})
    try:
        proposal = propose(rows, "things", "y", "things.csv")
    except (SourceError, ValidationError):
        assume(False)
    batch = ingest(rows, proposal)

    without_outcome = np.flatnonzero(proposal.target.values.isna()) + 1
    assert batch.rejected["row_number"].tolist() == without_outcome.tolist()


@pytest.mark.parametrize(
    "target",
    [[True, False], ["True", "False"], ["예", "아니오"], [1, 2], [1.0, 2.0], ["1.0", "2.0"]],
)
def test_classes_of_each_form_are_accepted(target: list[Any]) -> None:
    rows = pd.DataFrame(
        {"a": np.linspace(0, 1, ROWS), "y": np.resize(np.array(target, object), ROWS)}
    )

    assert_accepted(rows.infer_objects(), "y")


@pytest.mark.parametrize(
    ("days", "code"),
    [
        (("31/01/2024", "01/02/2024"), "%d/%m/%Y"),
        (("01/31/2024", "01/02/2024"), "%m/%d/%Y"),
        (("1.2.2024", "31.1.2024"), "%d.%m.%Y"),
        (("2024년 1월 2일", "2024년 12월 31일"), "%Y년 %m월 %d일"),
        (("2024. 1. 2.", "2024. 12. 31."), "%Y. %m. %d."),
        (("Jan 2, 2024", "Dec 31, 2024"), "%b %d, %Y"),
        (("01/31/2024 03:15 PM", "01/02/2024 11:00 AM"), "%m/%d/%Y %I:%M %p"),
        (("2024-03-01 오후 3:00", "2024-03-02 오전 11:30"), "%Y-%m-%d %p %I:%M"),
        (("24.03.01", "24.12.31"), "%y.%m.%d"),
        (("1 March 2024", "31 May 2024"), "%d %B %Y"),
        (("Mar-24", "Dec-23"), "%b-%y"),
    ],
)
def test_dates_in_one_format_that_can_only_be_read_in_one_way_are_accepted(
    days: tuple[str, str], code: str
) -> None:
    rows = pd.DataFrame(
        {"a": range(ROWS), "day": np.resize(days, ROWS), "y": np.resize(["a", "a", "b"], ROWS)}
    )
    rows["a"] += rows["a"] % 2

    assert propose(rows, "things", "y", "things.csv").ingestion["date_formats"] == {"day": code}
    assert_accepted(rows, "y")


@pytest.mark.parametrize("mark", ["?", "n/a", "None", "."])
def test_marks_beside_numbers_and_dates_are_missing_values(mark: str) -> None:
    rows = mixed_rows(300)
    rows.loc[5:40, "items"] = mark
    rows.loc[7, "birth date"] = mark

    proposal = propose(rows, "orders", TARGET, "orders.csv")
    accepted = ingest(rows, proposal).accepted

    assert proposal.ingestion["missing_marks"] == {"items": [mark], "birth date": [mark]}
    features = proposal.contract().features
    assert (features["items"].type, features["birth date"].type) == ("integer", "date")
    assert accepted["items"].isna().sum() == 36
    assert accepted["items"][0] == int(rows["items"][0])
    assert pd.isna(accepted["birth date"][7])
    assert len(accepted) == 300


def test_in_text_only_what_a_person_names_is_a_missing_value() -> None:
    rows = mixed_rows(300)
    rows.loc[5:40, "size"] = "NA"
    rows.loc[3, "items"] = "unknown"

    told = propose(rows.drop(columns="items"), "orders", TARGET, "orders.csv").contract()
    assert "NA" in told.features["size"].categories

    wished = propose(rows, "orders", TARGET, "x", missing=("NA", "unknown"))
    assert wished.ingestion["missing_marks"] == {"size": ["NA"], "items": ["unknown"]}
    assert "NA" not in wished.contract().features["size"].categories
    accepted = ingest(rows, wished).accepted
    assert pd.isna(accepted["size"][5])
    assert pd.isna(accepted["items"][3])


def test_whole_numbers_that_a_float_would_round_are_text() -> None:
    large = np.resize([str(-(2**53) - 1), str(-(2**53) - 3), "5"], ROWS)
    answers = np.resize(["a", "a", "b", "b"], ROWS)
    rows = pd.DataFrame({"a": large, "b": np.linspace(0, 1, ROWS), "y": answers})

    proposal = propose(rows, "things", "y", "things.csv")

    assert proposal.contract().features["a"].type == "category"
    assert ingest(rows, proposal).accepted["a"].tolist() == large.tolist()
