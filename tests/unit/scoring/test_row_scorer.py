"""Rows in, predictions out."""

import numpy as np
import pytest

from mlops_for_mle.predictor import Predictions, Predictor, Rows
from mlops_for_mle.release import Release
from mlops_for_mle.scoring.row_scorer import RowScorer

ROWS = [
    {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2},
    {"sepal_length": 99.0, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2},
    {"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1},
]


class Fussy(Predictor):
    """A model with a row that it cannot answer and one to which it answers no number."""

    def predict(self, rows: Rows) -> Predictions:
        if (rows[:, 0] == 8).any():
            raise RuntimeError("no eights")
        answers = super().predict(rows)
        values = answers.values.astype(np.float64)
        values[rows[:, 0] == 9] = np.nan
        return Predictions(values, answers.probabilities)


def test_a_class_has_its_label_and_probabilities(published: Release) -> None:
    scored = RowScorer(Predictor(published)).score(ROWS)

    assert scored.positions.tolist() == [0, 2]
    assert scored.values.tolist() == [0, 2]
    assert scored.labels == ("setosa", "virginica")
    assert scored.probabilities is not None
    assert scored.probabilities.argmax(axis=1).tolist() == [0, 2]
    assert [one.position for one in scored.rejected] == [1]
    assert scored.manifest == published.manifest


def test_a_regression_has_neither(regression_release: Release) -> None:
    scored = RowScorer(Predictor(regression_release)).score([{"방 수": 3, "area m2": 80.0}])

    assert scored.values[0] == pytest.approx(3 * 10 + 80 * 2, rel=1e-3)
    assert scored.labels == (None,)
    assert scored.probabilities is None


@pytest.mark.parametrize("rows", [[], ROWS[1:2]])
def test_rows_of_which_none_can_be_scored_give_an_empty_result(
    published: Release, rows: list[dict[str, float]]
) -> None:
    scored = RowScorer(Predictor(published)).score(rows)

    assert len(scored) == 0
    assert scored.probabilities is not None
    assert scored.probabilities.shape == (0, 3)
    assert len(scored.rejected) == len(rows)


def test_a_row_that_the_model_cannot_answer_does_not_hold_up_the_others(
    published: Release,
) -> None:
    rows = [ROWS[0] | {"sepal_length": value} for value in (5.0, 9.0, 99.0, 8.0, 6.0)]

    scored = RowScorer(Fussy(published)).score(rows)

    assert scored.positions.tolist() == [0, 4]
    assert len(scored.labels) == 2
    assert scored.probabilities is not None
    assert len(scored.probabilities) == 2
    assert {one.position: one.reason.partition(";")[0] for one in scored.rejected} == {
        1: "the model answers nan",
        2: "sepal_length: is too large, found 99",
        3: "the model fails: no eights",
    }
