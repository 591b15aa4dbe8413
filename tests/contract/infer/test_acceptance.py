"""The law of the room: a table is accepted by its own contract, or a sentence says why not."""

import datetime as dt
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_for_mle.errors import UserError
from tests.contract.infer.tables import ROWS, infer, ingest, ingested, table


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


@settings(max_examples=12)
@given(COLUMNS, COLUMNS, repeated(TEXTS), st.booleans())
def test_any_table_that_is_not_refused_is_accepted_whole(first, second, target, as_text):
    rows = pd.DataFrame({"a b": first, "select": second, "y": target})
    if as_text:
        rows = rows.astype(str).replace({"nan": "", "NaT": "", "None": ""})
    try:
        proposal = infer(rows)
    except (UserError, ValidationError):
        assume(False)
    batch = ingest(rows, proposal)

    without_outcome = np.flatnonzero(proposal.target.values.isna()) + 1
    assert batch.rejected["row_number"].tolist() == without_outcome.tolist()


def complaint(rows: pd.DataFrame, target: str = "y", **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        infer(rows, target, **options)
    said = str(caught.value)
    assert said.endswith(".")
    return said


WORDS = [*map(str, range(ROWS - 1)), "abc"]
DAYS = ["2024-01-02", "2024-01-03"]
HUNDRED_AND_ONE = [f"c{number % 101}" for number in range(200)]
LISTS = pd.Series([[1], [2]] * 20)


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (table(), {"target": "Y"}, "--target: things.csv has no column 'Y' (it has a, y)"),
        (table(), {"leave_out": ["b"]}, "--leave-out: things.csv has no column 'b'"),
        (table(), {"time": "a"}, "--time: column 'a' holds float, expected dates."),
        (table(), {"leave_out": ["y"]}, "Target column 'y' was left out by --leave-out."),
        (table(), {"target": "a", "task": "classification"}, "fractions, which are no classes"),
        (table(y="t"), {}, "Target column 'y' has the same value in every row (t)."),
        (table(), {"task": "regression"}, "holds text, expected numbers."),
        (table(200, y=HUNDRED_AND_ONE), {}, "has 101 classes, more than 100"),
        (table(y=LISTS), {}, "holds values such as [1], which no contract can hold"),
        (table(y=WORDS), {}, "Target column 'y' mixes 39 numbers with 1 other value(s)"),
        (table().head(0), {}, "things.csv has no rows"),
        (
            table(number=range(ROWS)).drop(columns="a"),
            {},
            "no column beside the target that can be learned from; 'number' has 40 different",
        ),
    ],
)
def test_what_stands_in_the_way_is_told_with_where_it_is(rows, options, said):
    assert said in complaint(rows, **options)


def test_features_of_several_kinds_are_left_out_and_the_others_go_on():
    columns = {
        "words": (WORDS, "mixes 39 numbers with 1 other value(s) such as 'abc' (row 40): correct"),
        "no day": (
            ["2024-02-31", *DAYS * 19, "2024-01-04"],
            "mixes 39 dates with 1 other value(s) such as '2024-02-31' (row 1)",
        ),
        "formats": (
            ["2024-01-02", "02/01/2024", "Jan 3, 2024"],
            "dates in more than one format, such as '2024-01-02' (row 1), '02/01/2024' (row 2)",
        ),
        "months": (["10 Jan 2024", "11 January 2024"], "(row 1), '11 January 2024' (row 2): w"),
        "unit": (["9,500원", "3.25"], "in more than one way, such as '9,500원' (row 1), '3.25'"),
        "large": (["1e308", "-1e308"], "holds no value that a model can take"),
        "marks": (["1.234,5", "3.25"], "in more than one way, such as '1.234,5' (row 1), '3.25'"),
    }

    proposal = infer(table(**{name: values for name, (values, _) in columns.items()}))

    assert [*proposal.contract().features] == ["a"]
    for column in proposal.left_out:
        _, why = columns.pop(column.name)
        assert why in column.left_out
    assert columns == {}


@pytest.mark.parametrize("day", ["02/01/2024", "2-1-2024 10:30"])
def test_dates_that_could_be_misread_are_not_guessed_but_shown_both_ways(day):
    rows = table(x=[day, day.replace("2024", "2023")])
    said = complaint(rows)

    assert "day and month could be taken for one another: " in said
    readings = re.findall(r"(2024\S+) \(--date-format 'x=(.*?)'\)", said)
    assert [time for time, _ in readings] == ["2024-01-02", "2024-02-01"]
    for time, form in readings:
        assert ingested(rows, date_format={"x": form})[0].date() == dt.date.fromisoformat(time)


def test_several_problems_are_told_at_once_and_leaving_their_columns_out_helps():
    days = ["02/01/2024", "03/01/2024"]
    rows = table(a=days, price=days, b=np.linspace(0, 1, ROWS))

    assert len(complaint(rows).splitlines()) == 2
    proposal = infer(rows, leave_out=["a", "price"])
    assert [*proposal.contract().features] == ["b"]
    assert [one.left_out for one in proposal.left_out] == ["was left out by --leave-out"] * 2
