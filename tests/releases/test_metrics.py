"""What models are measured by, and the constant answer that each has to beat."""

import numpy as np
import pytest
from sklearn import metrics

from mlops_for_mle.contract import Target
from mlops_for_mle.releases.metrics import (
    GREATER_IS_BETTER,
    format_metric,
    measure,
    measure_baseline,
)
from mlops_for_mle.releases.predictor import Predictions


def classes(*values: int | str) -> Target:
    found = [{"value": one, "label": f"class {one}"} for one in values]
    return Target.model_validate({"column": "y", "response_name": "answer", "classes": found})


NUMBER = Target(column="y", task="regression", response_name="answer")
TWO = classes(3, 7)
THREE = classes("a", "b", "c")


def test_answers_are_measured_with_every_class_weighing_the_same():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    truth = np.array([3, 7, 3, 3])

    found = measure(Predictions(np.array([3, 3, 7, 3]), probabilities), truth, TWO)

    assert found == pytest.approx(
        {
            "accuracy": 0.5,
            "balanced_accuracy": (2 / 3 + 0) / 2,
            "macro_f1": (4 / 6 + 0) / 2,
            "log_loss": -np.log([0.9, 0.8, 0.3, 0.6]).mean(),
            "brier": (0.1**2 + 0.2**2 + 0.7**2 + 0.4**2) / 4,
            "roc_auc": 1.0,
        }
    )


def test_the_area_of_several_classes_is_that_of_each_against_the_rest():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    truth = np.arange(60) % 3

    found = measure(Predictions(truth, probabilities), truth, THREE)

    areas = [metrics.roc_auc_score(truth == one, probabilities[:, one]) for one in range(3)]
    assert found["roc_auc"] == pytest.approx(np.mean(areas))


def test_a_regressor_is_measured_by_its_errors():
    found = measure(Predictions(np.array([1.0, 2, 6]), None), np.array([1.0, 2, 3]), NUMBER)

    assert found == pytest.approx({"rmse": 3**0.5, "mae": 1.0, "r2": 1 - 9 / 2})
    assert "r2" not in measure(Predictions(np.array([1.0]), None), np.array([1.0]), NUMBER)
    with pytest.raises(ValueError, match="Input contains infinity"):
        measure(Predictions(np.array([1.0, np.inf, 6.0]), None), np.array([1.0, 2, 3]), NUMBER)


@pytest.mark.parametrize(
    ("target", "truth", "expected"),
    [
        (TWO, [3, 7, 3, 3], {"accuracy": 0.75, "balanced_accuracy": 0.5, "roc_auc": 0.5}),
        (THREE, [2, 1, 2, 0], {"accuracy": 0.5, "roc_auc": 0.5, "brier": 0.625}),
        (THREE, [1, 1], {"accuracy": 1.0, "log_loss": 0.0}),
        (NUMBER, [1.0, 2.0, 6.0], {"r2": 0.0, "mae": 5 / 3, "rmse": (14 / 3) ** 0.5}),
    ],
)
def test_the_constant_answer_is_the_most_frequent_class_the_mean_or_the_median(
    target, truth, expected
):
    values = np.array(truth)

    found = measure_baseline(values, target)

    assert {name: found[name] for name in expected} == pytest.approx(expected)
    # Where a class has no row, there is no area under the curve.
    assert found.keys() == set(GREATER_IS_BETTER[target.task]) - (
        {"roc_auc"} if len(truth) == 2 else set()
    )


def test_a_metric_of_any_size_can_be_read():
    texts = [format_metric(value) for value in (0.9487, 0.0, 53.12346, 2.345678e-7, 123456.789)]
    assert texts == ["0.9487", "0.0000", "53.1235", "2.34568e-07", "123457"]
