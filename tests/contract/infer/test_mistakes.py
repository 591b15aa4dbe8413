"""Each kind of mistake gets one sentence that says what, where and what to do."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.errors import UserError
from tests.contract.infer.tables import ROWS, infer, table


def complaint(rows: pd.DataFrame, target: str = "y", **wishes: Any) -> str:
    with pytest.raises(UserError) as caught:
        infer(rows, target, **wishes)
    said = str(caught.value)
    assert said.endswith(".")
    return said


WORDS = [*map(str, range(ROWS - 1)), "abc"]
DAYS = ["2024-01-02", "2024-01-03"]
HUNDRED_AND_ONE = [f"c{number % 101}" for number in range(200)]
LISTS = pd.Series([[1], [2]] * 20)


@pytest.mark.parametrize(
    ("rows", "wishes", "said"),
    [
        (table(), {"target": "Y"}, "--target: things.csv has no column 'Y' (it has a, y)"),
        (table(), {"leave_out": ["b"]}, "--leave-out: things.csv has no column 'b'"),
        (table(), {"time": "a"}, "--time: column 'a' holds float, expected dates."),
        (table(), {"leave_out": ["y"]}, "Target column 'y' was left out by --leave-out."),
        (table(), {"target": "a", "task": "classification"}, "fractions, which are no classes"),
        (table(), {"task": "regression"}, "holds text, but a regression needs numbers"),
        (table(200, y=HUNDRED_AND_ONE), {}, "has 101 classes, at most 100 are"),
        (
            table(y=pd.date_range("2024-01-01", periods=ROWS)),
            {},
            "holds a date, expected numbers or classes",
        ),
        (table(y=LISTS), {}, "holds values such as [1], which no contract can hold"),
        (table(y=WORDS), {}, "Target column 'y' mixes 39 numbers with 1 other value(s)"),
        (table(a=WORDS), {}, "that can be learned from; 'a' mixes 39 numbers with 1"),
        (table().head(0), {}, "things.csv has no rows"),
        (
            table(number=range(ROWS)).drop(columns="a"),
            {},
            "no column beside the target that can be learned from; 'number' has 40 different",
        ),
    ],
)
def test_what_stands_in_the_way_is_told_with_where_it_is(
    rows: pd.DataFrame, wishes: dict[str, Any], said: str
) -> None:
    assert said in complaint(rows, **wishes)


def test_categories_that_look_partly_like_numbers_are_no_mixture() -> None:
    features = infer(table(stage=["1", "2", "3+", "4+"])).contract().features

    assert features["stage"].categories == ("1", "2", "3+", "4+")


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (WORDS, "mixes 39 numbers with 1 other value(s) such as 'abc' (row 40): correct them"),
        (["2024-02-31", *DAYS * 19, "2024-01-04"], "mixes 39 dates with 1 other value(s) such as"),
        ([*DAYS * 19, "2024-01-04", "soon"], "39 dates with 1 other value(s) such as 'soon'"),
        (
            ["2024-01-02", "02/01/2024", "Jan 3, 2024"],
            "has dates in more than one format, such as '2024-01-02' (row 1), '02/01/2024' (row 2)",
        ),
        (["10 Jan 2024", "11 January 2024"], "'10 Jan 2024' (row 1), '11 January 2024' (row 2):"),
        (["9,500원", "3.25"], "in more than one way, such as '9,500원' (row 1), '3.25' (row 2): w"),
        (["1.234,5", "3.25"], "in more than one way, such as '1.234,5' (row 1), '3.25' (row 2): w"),
    ],
    ids=["words", "no day", "no date", "three formats", "months", "unit", "marks"],
)
def test_a_feature_of_several_kinds_is_left_out_and_the_others_go_on(
    column: list[str], why: str
) -> None:
    proposal = infer(table(odd=column))

    assert proposal.contract().feature_names == ("a",)
    (odd,) = proposal.left_out
    assert why in odd.left_out


@pytest.mark.parametrize("day", ["02/01/2024", "2-1-2024", "2/1/2024 10:30"])
def test_dates_that_could_be_misread_are_not_guessed_but_shown_both_ways(day: str) -> None:
    said = complaint(table(day=[day, day.replace("2024", "2023")]))

    assert "day and month could be taken for one another: " in said
    assert f"{day!r} is 2024-01-02 (--date-format" in said
    assert "or 2024-02-01 (--date-format" in said


def test_several_problems_are_told_at_once_and_leaving_their_columns_out_helps() -> None:
    days = ["02/01/2024", "03/01/2024"]
    rows = table(a=days, price=days, b=np.linspace(0, 1, ROWS))

    assert len(complaint(rows).splitlines()) == 2
    proposal = infer(rows, leave_out=["a", "price"])
    assert proposal.contract().feature_names == ("b",)
    assert [one.left_out for one in proposal.left_out] == ["was left out by --leave-out"] * 2
