"""What a snapshot must be like before a model is trained on it, and which rows are held back."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_examples
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training import checks
from mlops_for_mle.pipelines.training.options import DataCheckOptions, TrainingOptions
from mlops_for_mle.pipelines.training.split import folds as folds_of
from tests.pipelines.training.examples import LINE_CONTRACT, line_rows, split
from tests.releases import IRIS_CONTRACT, SMALL_CONTRACT, iris_rows

# Two numbers, for a test of classes or of numbers.
FEATURES = {"features": {"width": {}, "height": {}}}
CLASSES, NUMBERS = (
    one.model_validate(one.model_dump() | FEATURES) for one in (SMALL_CONTRACT, LINE_CONTRACT)
)


def table(count: int = 400) -> pd.DataFrame:
    """Two classes that overlap in each feature and part along the diagonal."""
    random = np.random.default_rng(0)
    width, height = random.normal(size=(2, count))
    kind = (width + height + random.normal(scale=0.2, size=count) > 0).astype(int)
    return pd.DataFrame({"width": width, "height": height, "kind": kind, "y": width + height})


def check(
    rows: pd.DataFrame, contract: Contract = CLASSES, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    """What is found, and what is wrong."""
    chosen = DataCheckOptions.model_validate(options)
    return checks.check(*encode_examples(rows, contract), contract, chosen)


def test_too_few_rows_are_told_and_repeated_ones_count_once():
    rows = table()
    keep = (rows.kind == 0) | (rows.index < rows.index[rows.kind == 1][3])

    assert check(pd.concat([table(20)] * 10, ignore_index=True), minimum_rows=30)[1] == [
        "it has 20 distinct rows, 30 are needed: ingest more, or lower data_checks.minimum_rows"
    ]
    assert check(rows.assign(y=1.0), NUMBERS)[1] == [
        "y has the same value in all 400 rows, so there is nothing to learn: ingest other rows, or "
        "choose another target"
    ]
    (rare,) = check(rows[keep].reset_index(drop=True))[1]
    assert "of at least 5: 'yes' 3; ingest more" in rare


@pytest.mark.parametrize(
    ("contract", "height"),
    [
        # A refund of nothing, whatever the others were.
        (CLASSES, lambda rows: rows.kind * (100.0 + np.arange(len(rows)))),
        (NUMBERS, lambda rows: rows.y * 2.0 + 1),
    ],
    ids=["zero in one class", "regression"],
)
def test_a_feature_that_holds_the_answer_is_leakage(contract, height):
    rows = table().assign(height=height)

    (problem,) = check(rows, contract)[1]

    told = f"height alone tells {contract.target.column} (cross-validated score "
    assert problem.startswith(told)
    assert check(rows, contract, maximum_single_feature_score=None)[1] == []


SEEDS = st.integers(0, 2**32 - 1)
# Few distinct values, so that equal rows and rows with contradicting classes are common.
ROWS = st.lists(
    st.tuples(
        *(st.sampled_from([0.0, -0.0, 0.5, 1.0]), st.integers(0, 4), st.integers(0, 1)),
        *(st.integers(0, 9), st.sampled_from("abcdef")),
    ),
    min_size=8,
    max_size=60,
)


def shops(rows: list[Any]) -> pd.DataFrame:
    """Rows of the small contract with a time and a shop."""
    found = pd.DataFrame(rows, columns=["width", "count", "kind", "day", "shop"])
    days = pd.to_timedelta(found["day"], "D")
    return found.assign(timestamp=pd.Timestamp("2026-01-01") + days, id=range(len(rows)))


def held_back(rows: pd.DataFrame, contract: Contract, fraction: float, seed: int) -> pd.DataFrame:
    """The validation rows."""
    examples = split(rows, contract, validation_fraction=fraction, seed=seed)
    return examples.rows[examples.is_validation]


@pytest.mark.parametrize("by", ["hash", "time", "group"])
@given(ROWS, st.floats(0.05, 0.95), SEEDS, st.randoms(use_true_random=False))
def test_what_belongs_together_falls_on_one_side_in_whatever_order_and_so_in_folds(
    by, rows, fraction, seed, random
):
    options = {"split": {"by": by, "column": "shop" if by == "group" else None}, "seed": seed}
    options["validation_fraction"] = fraction
    order = random.sample(range(len(rows)), len(rows))
    try:
        examples = split(shops(rows), SMALL_CONTRACT, **options)
        shuffled = split(shops(rows).iloc[order], SMALL_CONTRACT, **options)
    except UserError:
        reject()

    given, is_validation = examples.rows, examples.is_validation
    columns = {"hash": ["width", "count"], "time": ["day"], "group": ["shop"]}[by]
    together = pd.Series(list(map(tuple, (given[columns].replace(-0.0, 0.0)).to_numpy())))
    learned, judged = set(together[~is_validation]), set(together[is_validation])
    assert not learned & judged
    assert set(given["id"][is_validation]) == set(shuffled.rows["id"][shuffled.is_validation])
    if by == "time":
        assert max(learned) < min(judged)
    if by == "hash":
        assert given["kind"][is_validation].nunique() == given["kind"].nunique()

    training, truth = TrainingOptions.model_validate(options), examples.truth
    try:
        folds = folds_of(examples, training)
    except (UserError, ValueError):
        return
    assert str(folds_of(examples, training)) == str(folds), "the same again"
    if by == "time" and examples.rows["day"].nunique() < 3:
        by, together = "hash", pd.Series(map(tuple, examples.features.to_numpy()))
    for learn, judge in folds:
        assert not set(together[learn]) & set(together[judge])
        assert by != "time" or max(together[learn]) < min(together[judge])
        assert set(truth[learn]) == set(truth)
    judged = [row for _, judge in folds for row in judge]
    assert len(set(judged)) == len(judged)


def test_there_are_no_more_folds_than_rows_of_a_class():
    # Of each class four rows are left to learn from.
    examples = split(iris_rows().groupby("target").head(5), IRIS_CONTRACT)

    assert len(folds_of(examples.train, TrainingOptions())) == 4


@given(st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.9]), SEEDS)
def test_the_share_of_each_class_is_held_back(fraction, seed):
    rows = iris_rows().drop_duplicates(ignore_index=True)

    validation = held_back(rows, IRIS_CONTRACT, fraction, seed)

    for value, count in rows["target"].value_counts().items():
        assert (validation["target"] == value).sum() == pytest.approx(fraction * count, abs=0.5)


def test_most_rows_keep_their_side_when_the_table_grows():
    rows = line_rows(400).assign(id=range(400))

    before, after = (
        set(held_back(some, LINE_CONTRACT, 0.25, 7)["id"]) for some in (rows.iloc[:360], rows)
    )

    assert len(before & after) >= 0.85 * len(before)


def test_the_split_is_the_same_in_every_revision_of_the_code():
    validation = held_back(iris_rows(with_key=True), IRIS_CONTRACT, 0.05, 42)

    assert validation["id"].tolist() == [18, 31, 41, 64, 69, 90, 116, 144]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ({"by": "hash"}, "leaves no row of class yes to learn from or to validate"),
        ({"by": "time"}, "leaves no row of class yes to learn from"),
        ({"by": "time", "column": "when"}, "expected is one of width.*found when"),
        ({"by": "time", "column": "shop"}, "shop holds no dates"),
        ({"by": "group"}, r"contract\.group"),
    ],
)
def test_a_split_that_cannot_be_is_told(by, message):
    rows = [(0.0, day % 5, int(day > 7), day, "ab"[day % 2]) for day in range(9)]

    with pytest.raises(UserError, match=message):
        split(shops(rows), SMALL_CONTRACT, split=by)
    with pytest.raises(UserError, match="leaves no row to learn from or to validate on"):
        split(pd.concat([line_rows(1)] * 5), LINE_CONTRACT)
