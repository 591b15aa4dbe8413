"""Which rows are held back: laws of the split."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training import nodes, splits
from mlops_for_mle.pipelines.training.options import TrainingOptions
from tests.pipelines.training.examples import LINE_CONTRACT, iris_rows, line_rows, split
from tests.releases import IRIS_CONTRACT, SMALL_CONTRACT

# Few distinct values, so that equal rows and rows with contradicting classes are common.
SMALL_ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, -0.0, 0.5, 1.0]), st.integers(0, 4), st.integers(0, 1)),
    min_size=4,
    max_size=40,
)
FRACTIONS = st.floats(0.05, 0.95)
SEEDS = st.integers(0, 2**32 - 1)


def split_rows(
    rows: pd.DataFrame, contract: Contract, fraction: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and validation rows."""
    examples = split(rows, contract, validation_fraction=fraction, seed=seed)
    return examples.rows[~examples.is_validation], examples.rows[examples.is_validation]


def small_table(rows: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["width", "count", "kind"]).assign(id=range(len(rows)))


def distinct(table: pd.DataFrame, contract: Contract = SMALL_CONTRACT) -> set[tuple[float, ...]]:
    features = table.loc[:, list(contract.feature_names)].astype(float) + 0.0
    return set(features.itertuples(index=False, name=None))


@given(SMALL_ROWS, FRACTIONS, SEEDS, st.randoms(use_true_random=False))
def test_equal_rows_fall_on_one_side_each_class_on_both_in_whatever_order(
    rows: list[Any], fraction: float, seed: int, random: Any
) -> None:
    table = small_table(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    try:
        training, validation = split_rows(table, SMALL_CONTRACT, fraction, seed)
    except UserError:
        reject()

    assert not distinct(training) & distinct(validation)
    assert sorted([*training["id"], *validation["id"]]) == table["id"].tolist()
    assert set(training["kind"]) == set(validation["kind"]) == set(table["kind"])
    _, shuffled = split_rows(table.iloc[order], SMALL_CONTRACT, fraction, seed)
    assert set(validation["id"]) == set(shuffled["id"])


@given(st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.9]), SEEDS)
def test_the_share_of_each_class_is_held_back(fraction: float, seed: int) -> None:
    rows = iris_rows().drop_duplicates(ignore_index=True)

    _, validation = split_rows(rows, IRIS_CONTRACT, fraction, seed)

    for value, count in rows["target"].value_counts().items():
        assert (validation["target"] == value).sum() == pytest.approx(fraction * count, abs=0.5)


def test_most_rows_keep_their_side_when_the_table_grows() -> None:
    rows = line_rows(400)

    _, before = split_rows(rows.iloc[:360], LINE_CONTRACT, 0.25, 7)
    _, after = split_rows(rows, LINE_CONTRACT, 0.25, 7)

    kept = distinct(before, LINE_CONTRACT) & distinct(after, LINE_CONTRACT)
    assert len(kept) >= 0.85 * len(before)


def test_the_split_is_the_same_in_every_revision_of_the_code() -> None:
    _, validation = split_rows(iris_rows(with_key=True), IRIS_CONTRACT, 0.05, 42)

    assert validation["id"].tolist() == [18, 31, 41, 64, 69, 90, 116, 144]


def test_a_class_that_cannot_stand_on_both_sides_is_told() -> None:
    rows = [(0, 1, 0), (0, 2, 0), (0, 3, 1), (0, 3, 1)]

    with pytest.raises(UserError, match="leaves no row of class yes to learn from or to validate"):
        split_rows(small_table(rows), SMALL_CONTRACT, 0.5, 1)
    with pytest.raises(UserError, match="leaves no row to learn from or to validate on"):
        split_rows(pd.concat([line_rows(1)] * 5), LINE_CONTRACT, 0.5, 1)


TIMED_ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from("abcdef"), st.integers(0, 1)),
    min_size=8,
    max_size=60,
)


def timed_table(rows: list[Any]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["day", "shop", "kind"]).assign(width=1.0, count=1)
    return table.assign(timestamp=pd.Timestamp("2026-01-01") + pd.to_timedelta(table["day"], "D"))


def split_or_skip(rows: list[Any], **by: str) -> nodes.Examples:
    try:
        return split(timed_table(rows), SMALL_CONTRACT, split=by)
    except UserError:
        reject()


@given(TIMED_ROWS, st.randoms(use_true_random=False))
def test_by_time_all_that_is_held_back_is_newer_in_whatever_order(
    rows: list[Any], random: Any
) -> None:
    examples = split_or_skip(rows, by="time")
    shuffled = split_or_skip(random.sample(rows, len(rows)), by="time")

    days = examples.rows["day"]
    assert days[~examples.is_validation].max() < days[examples.is_validation].min()
    assert shuffled.is_validation.sum() == examples.is_validation.sum()


@given(TIMED_ROWS)
def test_a_group_stands_on_one_side(rows: list[Any]) -> None:
    examples = split_or_skip(rows, by="group", column="shop")

    sides = examples.rows.groupby("shop")["kind"].agg(lambda one: one.index.tolist())
    assert all(len(set(examples.is_validation[rows].tolist())) == 1 for rows in sides)


@given(TIMED_ROWS, st.sampled_from(["time", "group"]))
def test_folds_keep_what_the_split_keeps_and_judge_no_row_twice(rows: list[Any], by: str) -> None:
    examples = split_or_skip(rows, by=by, column="timestamp" if by == "time" else "shop")
    options = TrainingOptions.model_validate({"split": {"by": by, "column": "shop"}})
    values, truth = examples.split_values, examples.truth

    try:
        folds = splits.folds(values, truth, SMALL_CONTRACT.target, options)
    except UserError:
        reject()

    for learn, judge in folds:
        if by == "time":
            assert values[learn].max() < values[judge].min()
        assert not set(values[learn].tolist()) & set(values[judge].tolist())
        assert set(truth[learn]) == set(truth)
    judged = [row for _, judge in splits.partition(folds, len(truth)) for row in judge]
    assert sorted(judged) == list(range(len(truth)))


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ({"by": "time", "column": "when"}, "no column when, expected is one of"),
        ({"by": "time", "column": "shop"}, "shop holds no dates"),
        ({"by": "time"}, "leaves no row of class yes to learn from"),
    ],
)
def test_a_split_that_cannot_be_is_told(by: dict[str, str], message: str) -> None:
    rows = [(day, "ab"[day % 2], int(day > 7)) for day in range(9)]

    with pytest.raises(UserError, match=message):
        split(timed_table(rows), SMALL_CONTRACT, split=by)
