"""Each kind of mistake gets one sentence that says what, where and what to do."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from mlops_for_mle.contract.infer.propose import Proposal, propose
from mlops_for_mle.errors import UserError

ROWS = 200


def table(**columns: Any) -> pd.DataFrame:
    """A sound table with an a to learn from and a y to predict, and columns of one's own."""
    random = np.random.default_rng(0)
    sound = {"a": random.random(ROWS), "y": random.integers(0, 2, ROWS)}
    return pd.DataFrame({**sound, **columns}).astype(str)


def infer(rows: pd.DataFrame, target: str = "y", **wishes: Any) -> Proposal:
    return propose(rows, "things", target, "things.csv", **wishes)


def complaint(rows: pd.DataFrame, target: str = "y", **wishes: Any) -> str:
    with pytest.raises(UserError) as caught:
        infer(rows, target, **wishes)
    said = str(caught.value)
    assert said.endswith(".")
    return said


def with_values(*values: tuple[int, str], of: str = "a") -> pd.DataFrame:
    rows = table()
    for place, value in values:
        rows.loc[place, of] = value
    return rows


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"target": "Y"}, "--target: things.csv has no column 'Y' (it has a, y)"),
        ({"leave_out": ["b"]}, "--leave-out: things.csv has no column 'b'"),
        ({"time": "b"}, "--time: things.csv has no column 'b'"),
        ({"time": "a"}, "--time: column 'a' holds float, expected dates."),
    ],
)
def test_options_that_name_wrong_columns_are_refused(wishes: dict[str, Any], said: str) -> None:
    assert said in complaint(table(), **wishes)


@pytest.mark.parametrize(
    "identifier",
    [
        range(1, ROWS + 1),
        [f"C{number:05d}" for number in range(ROWS)],
        np.random.default_rng(1).permutation(ROWS) * 7919,
    ],
    ids=["serial numbers", "text", "shuffled numbers"],
)
def test_an_identifier_is_left_out(identifier: Any) -> None:
    (left_out,) = infer(table(customer_id=identifier)).left_out

    assert left_out.source_name == "customer_id"
    assert "so it is an identifier" in (left_out.left_out or "")


def test_a_number_that_happens_to_be_unique_is_no_identifier() -> None:
    trades = np.random.default_rng(1).permutation(ROWS) * 7919

    assert "number of trades" in infer(table(**{"number of trades": trades})).contract().features


def test_ten_thousand_categories_are_left_out() -> None:
    rows = pd.concat([table()] * 150, ignore_index=True)
    rows["street"] = [f"street {number % 10_000}" for number in range(len(rows))]

    (left_out,) = infer(rows).left_out
    assert (left_out.left_out or "").startswith("has 10,000 different values in 30,000 rows")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ([f"c{number % 101}" for number in range(ROWS)], "has 101 classes, at most 100 are"),
        (
            ["odd", *["yes", "no"] * 99, "yes"],
            "too rare to learn, with so many distinct rows: 'odd' 1 (5",
        ),
        (
            ["a", "b"] * 40 + [""] * 120,
            "is missing in 120 of 200 rows: learn from the others with --drop-missing-target",
        ),
        (pd.date_range("2024-01-01", periods=ROWS), "holds date, expected numbers or classes"),
    ],
    ids=["many classes", "a rare class", "mostly missing", "dates"],
)
def test_a_target_that_cannot_be_learned_is_told(target: Any, said: str) -> None:
    assert said in complaint(table(y=target))


def test_words_are_no_regression_and_fractions_are_no_classes() -> None:
    words, fractions = table(y=["yes", "no"] * 100), table(y=np.arange(ROWS) / 7)

    assert "a regression needs numbers" in complaint(words, task="regression")
    assert "are no classes" in complaint(fractions, task="classification")


def test_what_the_contract_itself_refuses_is_told_by_it() -> None:
    with pytest.raises(ValidationError, match="name"):
        propose(table(), "My Things", "y", "things.csv")
    with pytest.raises(ValidationError, match="classes needs at least 2"):
        infer(table(y="yes"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            with_values((3, "abc"), (8, "none left")),
            "no column beside the target that can be learned from; 'a' mixes 198 numbers with 2",
        ),
        (with_values((3, "abc"), of="y"), "Column 'y' mixes 199 numbers with 1 other value(s)"),
        (
            table(day=np.resize(["2024-01-02", "02/01/2024", "Jan 3, 2024"], ROWS)),
            "dates in more than one format, such as '2024-01-02', '02/01/2024', 'Jan 3, 2024'. "
            "Write all of them as YYYY-MM-DD. Or leave the column out, by --leave-out 'day'",
        ),
        (
            table(day=np.resize(["10 Jan 2024", "11 January 2024"], ROWS)),
            "dates in more than one format, such as '10 Jan 2024', '11 January 2024'",
        ),
        (pd.concat([table(), table()[["a"]]], axis="columns"), "has 'a' more than once among its"),
        (table().head(0), "things.csv has no rows"),
        (
            table(number=range(ROWS)).drop(columns="a"),
            "no column beside the target that can be learned from; 'number' has 200 different",
        ),
    ],
    ids=[
        *("nothing else", "target", "three formats", "months", "twice", "no rows", "nothing"),
    ],
)
def test_what_stands_in_the_way_is_told_with_where_it_is(rows: pd.DataFrame, said: str) -> None:
    assert said in complaint(rows)


def test_categories_that_look_partly_like_numbers_are_no_mixture() -> None:
    rows = table(stage=np.tile(["1", "2", "3+", "4+"], ROWS // 4))

    assert infer(rows).contract().features["stage"].categories == ("1", "2", "3+", "4+")


DAYS = ["2024-01-02", "2024-01-03"]


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (["abc", *map(str, range(ROWS - 1))], "199 numbers with 1 other value(s) such as 'abc'"),
        (["2024-02-31", *DAYS * 99, "2024-01-04"], "199 dates with 1 other value(s) such as '2024"),
        ([*np.resize(DAYS, ROWS - 1), "soon"], "199 dates with 1 other value(s) such as 'soon'"),
    ],
    ids=["words", "no day", "no date"],
)
def test_a_feature_of_several_kinds_is_left_out_and_the_others_go_on(
    column: list[str], why: str
) -> None:
    proposal = infer(table(odd=column))

    assert proposal.contract().feature_names == ("a",)
    (odd,) = proposal.left_out
    assert str(odd.left_out).startswith(f"mixes {why}")
    assert str(odd.left_out).endswith("stand for a missing value by --missing")


@pytest.mark.parametrize("mark", ["9,500원", "12.5%", "$ 3", "1.234,5", "€ 3,50"])
def test_numbers_that_are_not_all_written_alike_are_named(mark: str) -> None:
    (price,) = infer(table(price=[mark, "3.25"] * 100)).left_out

    told = f"in more than one way, such as {mark!r} (row 1), '3.25' (row 2): write all"
    assert told in str(price.left_out)


@pytest.mark.parametrize("day", ["02/01/2024", "2-1-2024", "2/1/2024 10:30"])
def test_dates_that_could_be_misread_are_not_guessed_but_shown_both_ways(day: str) -> None:
    said = complaint(table(day=np.resize([day, day.replace("2024", "2023")], ROWS)))

    assert "day and month could be taken for one another: " in said
    assert f"{day!r} is 2024-01-02 (--date-format" in said
    assert "or 2024-02-01 (--date-format" in said


def test_several_problems_are_told_at_once_and_leaving_their_columns_out_helps() -> None:
    days = np.resize(["02/01/2024", "03/01/2024"], ROWS)
    rows = table().assign(a=days, b=table()["a"], price=days)

    assert len(complaint(rows).splitlines()) == 2
    proposal = infer(rows, leave_out=["a", "price"])
    assert proposal.contract().feature_names == ("b",)
    assert [one.left_out for one in proposal.left_out] == ["was left out by --leave-out"] * 2
