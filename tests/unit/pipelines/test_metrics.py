import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.errors import UserError
from mlops_for_mle.metric_names import metric_text
from mlops_for_mle.pipelines.metrics import measure
from tests.unit.conftest import LINE_CONTRACT, SMALL_CONTRACT


class FirstColumn:
    """Predicts the contract's first feature."""

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        assert set(features.dtypes) == {np.dtype("float64")}
        return features.iloc[:, 0].to_numpy()


def test_a_classifier_is_measured_with_every_class_weighing_the_same() -> None:
    rows = pd.DataFrame({"kind": [0, 0, 0, 1], "count": 1, "width": [0, 0, 0, 0], "id": 9})

    found = measure(FirstColumn(), rows, SMALL_CONTRACT)

    assert found == {
        "accuracy": 0.75,
        "balanced_accuracy": 0.5,
        "macro_f1": pytest.approx((6 / 7 + 0) / 2),
    }


def test_answers_that_are_not_finite_are_told() -> None:
    rows = pd.DataFrame({"y": [1.0, 2.0, 3.0], "b": 0, "a": [1, np.inf, 6]})

    with pytest.raises(UserError, match="1 of 3 rows with a number that is not finite"):
        measure(FirstColumn(), rows, LINE_CONTRACT)


def test_a_regressor_is_measured_by_its_errors() -> None:
    rows = pd.DataFrame({"y": [1.0, 2.0, 3.0], "b": 0, "a": [1, 2, 6]})

    found = measure(FirstColumn(), rows, LINE_CONTRACT)

    assert found == {
        "rmse": pytest.approx(3**0.5),
        "mae": pytest.approx(1.0),
        "r2": pytest.approx(1 - 9 / 2),
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9487, "0.9487"),
        (0.0, "0.0000"),
        (1.0, "1.0000"),
        (53.12346, "53.1235"),
        (0.001, "0.0010"),
        (2.345678e-7, "2.34568e-07"),
        (123456.789, "123457"),
        (-1.234567e9, "-1.23457e+09"),
        (float("nan"), "nan"),
    ],
)
def test_a_metric_of_any_size_can_be_read(value: float, text: str) -> None:
    assert metric_text(value) == text
