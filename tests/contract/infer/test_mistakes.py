"""Each kind of mistake gets one sentence that says what, where and what to do."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from mlops_for_mle.contract.infer.propose import Proposal, propose
from mlops_for_mle.errors import SourceError, UserError

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


def test_a_target_that_is_not_there_is_named_with_the_columns_and_the_likely_one() -> None:
    said = complaint(table(), target="Y")

    assert "--target: things.csv has no column 'Y'" in said
    assert "did you mean 'y'?" in said
    assert "(it has a, y)" in said


def test_a_constant_target_leaves_nothing_to_learn() -> None:
    said = complaint(table(y=1))

    assert "'y' has the same value in every row (1.0)" in said
    assert "name another --target" in said


def test_an_identifier_cannot_be_the_target() -> None:
    assert "so it is an identifier and cannot be predicted" in complaint(table(y=range(ROWS)))


@pytest.mark.parametrize(
    "identifier",
    [
        range(1, ROWS + 1),
        [f"C{number:05d}" for number in range(ROWS)],
        np.random.default_rng(1).permutation(ROWS) * 7919,
    ],
    ids=["serial numbers", "text", "shuffled numbers"],
)
def test_an_identifier_is_left_out_and_cannot_be_made_a_feature(identifier: Any) -> None:
    rows = table(customer_id=identifier)

    (left_out,) = infer(rows).left_out
    assert left_out.source_name == "customer_id"
    assert left_out.left_out == "has a different value in each of 200 rows, so it is an identifier"
    said = complaint(rows, include=["customer_id"])
    assert said == f"Column 'customer_id' cannot be a feature: it {left_out.left_out}."


def test_ten_thousand_categories_are_left_out_and_cannot_be_made_a_feature() -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "a": random.random(30_000),
            "street": [f"street {number % 10_000}" for number in range(30_000)],
            "y": random.integers(0, 2, 30_000),
        }
    ).astype(str)

    (left_out,) = infer(rows).left_out
    assert (left_out.left_out or "").startswith("has 10,000 categories, at most 1,000 are allowed")
    assert "group them into fewer" in complaint(rows, include=["street"])


def test_a_target_of_too_many_classes_asks_for_fewer() -> None:
    rows = table(y=[f"class {number % 101}" for number in range(ROWS)])

    assert "has 101 classes, at most 100 are allowed: group them" in complaint(
        pd.concat([rows] * 3)
    )


def test_a_class_of_one_row_is_named() -> None:
    rows = table(y=["odd", *["yes", "no"] * 99, "yes"])

    assert "only one row of the class 'odd': a class needs at least 2" in complaint(rows)


def test_numbers_mixed_with_words_are_named_with_their_rows() -> None:
    said = complaint(with_values((3, "abc"), (8, "none left")))

    assert said.startswith("Column 'a' mixes 198 numbers with 2 other values")
    assert "'abc' (row 4), 'none left' (row 9)" in said
    assert "--leave-out 'a'" in said


def test_categories_that_look_partly_like_numbers_are_no_mixture() -> None:
    rows = table(stage=np.tile(["1", "2", "3+", "4+"], ROWS // 4))

    assert infer(rows).contract().features["stage"].categories == ("1", "2", "3+", "4+")


def test_numbers_with_separators_or_signs_are_named() -> None:
    said = complaint(table(price="1,234"))

    assert "such as '1,234' (row 1): write plain digits" in said


@pytest.mark.parametrize("mark", ["9,500원", "12.5%", "$ 3", "₩1,000"])
def test_other_ways_of_writing_amounts_are_named_too(mark: str) -> None:
    assert f"{mark!r}" in complaint(table(price=[mark] * 150 + ["3"] * 50))


def test_dates_in_three_formats_are_named_with_an_example_each() -> None:
    said = complaint(table(day=np.resize(["2024-01-02", "02/01/2024", "Jan 3, 2024"], ROWS)))

    assert "Column 'day' has dates in more than one format" in said
    for example in ("'2024-01-02'", "'02/01/2024'", "'Jan 3, 2024'"):
        assert example in said
    assert "Write all of them as YYYY-MM-DD. Or leave the column out" in said


@pytest.mark.parametrize("day", ["02/01/2024", "2-1-2024", "2/1/2024 10:30"])
def test_dates_that_could_be_misread_are_not_guessed_but_shown_both_ways(day: str) -> None:
    said = complaint(table(day=np.resize([day, day.replace("2024", "2023")], ROWS)))

    assert "day and month could be taken for one another: " in said
    assert f"{day!r} is 2024-01-02 or 2024-02-01. Write all of them as YYYY-MM-DD." in said


def test_month_names_written_in_two_ways_are_named() -> None:
    said = complaint(table(day=np.resize(["10 Jan 2024", "11 January 2024"], ROWS)))

    assert "has dates in more than one format, such as '10 Jan 2024', '11 January 2024'" in said


def test_a_day_that_no_calendar_has_is_named() -> None:
    rows = table(day=["2024-02-31"] + ["2024-01-02", "2024-01-03"] * 99 + ["2024-01-04"])

    said = complaint(rows)

    assert "mixes 199 dates with 1 other value such as '2024-02-31' (row 1)" in said


def test_dates_mixed_with_words_are_named() -> None:
    rows = table(day=[*(f"2024-01-{1 + number % 28:02d}" for number in range(ROWS - 1)), "soon"])

    assert "mixes 199 dates with 1 other value such as 'soon' (row 200)" in complaint(rows)


def test_column_names_that_are_there_twice_are_named() -> None:
    rows = table()

    said = complaint(pd.concat([rows, rows[["a"]]], axis="columns"))

    assert "things.csv has 'a' 2 times among its columns: give each column a name" in said


def test_a_table_without_rows_says_so() -> None:
    assert "things.csv has no rows" in complaint(table().head(0))


def test_a_table_with_nothing_beside_the_target_says_why() -> None:
    rows = table(number=range(ROWS)).drop(columns="a")

    assert "'number' has a different value in each of 200 rows" in complaint(rows)


def test_a_target_that_is_mostly_missing_says_how_to_read_the_others() -> None:
    rows = table()
    rows.loc[: ROWS // 2 + 1, "y"] = ""

    assert "is missing in 102 of 200 rows: read only rows" in complaint(rows)


def test_several_problems_are_told_at_once_and_leaving_their_columns_out_helps() -> None:
    rows = with_values((3, "abc")).assign(b=table()["a"], price="1,234")

    assert len(complaint(rows).splitlines()) == 2
    proposal = infer(rows, leave_out=["a", "price"])
    assert proposal.contract().feature_names == ("b",)
    assert [one.left_out for one in proposal.left_out] == ["was left out by --leave-out"] * 2


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"leave_out": ["b"]}, "--leave-out: things.csv has no column 'b'"),
        ({"include": ["b"]}, "--include: things.csv has no column 'b'"),
        ({"time": "b"}, "--time: things.csv has no column 'b'"),
        ({"time": "a"}, "--time: column 'a' holds float, expected dates or times."),
    ],
)
def test_options_that_name_wrong_columns_are_refused(wishes: dict[str, Any], said: str) -> None:
    assert said in complaint(table(), **wishes)


def test_words_are_no_regression_and_fractions_are_no_classes() -> None:
    assert "a regression needs numbers" in complaint(
        table(y=["yes", "no"] * 100), task="regression"
    )
    assert "are no classes" in complaint(table(y=np.arange(ROWS) / 7), task="classification")


def test_a_contract_name_that_is_no_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="name"):
        propose(table(), "My Things", "y", "things.csv")


def test_an_unreadable_target_is_not_told_to_be_left_out() -> None:
    said = complaint(with_values((3, "abc"), of="a"), target="a")

    assert "mixes" in said
    assert "--leave-out" not in said
    assert isinstance(SourceError(said), UserError)


@pytest.mark.parametrize("mark", ["69,5", "6.934,00", "41821 원"])
def test_a_decimal_comma_and_a_unit_behind_a_blank_are_named_too(mark: str) -> None:
    assert f"{mark!r}" in complaint(table(price=[mark] * 150 + ["3"] * 50))
