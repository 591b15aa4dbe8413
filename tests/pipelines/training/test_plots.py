import io
import warnings
from collections.abc import Iterable

import numpy as np
from matplotlib.text import Text

from mlops_for_mle.contract import Target
from mlops_for_mle.pipelines.training.report import draw, draw_importance, drawable
from mlops_for_mle.releases.predictor import Predictions
from tests.pipelines.training.examples import LINE_CONTRACT
from tests.releases import IRIS_CONTRACT

IRIS, LINE = IRIS_CONTRACT.target, LINE_CONTRACT.target

TRUTH = np.array([0, 0, 1, 1, 1, 2])
FOUND = np.array([0, 1, 1, 1, 2, 2])


def texts(found: Iterable[Text]) -> list[str]:
    return [one.get_text() for one in found]


def test_classes_are_shown_by_their_confusion_their_scores_and_their_reliability() -> None:
    errors, report = draw(TRUTH, {"served": Predictions(FOUND, np.eye(3)[FOUND] * 0.4 + 0.2)}, IRIS)

    (matrix,) = errors.axes
    assert texts(matrix.texts) == ["1", "1", "0", "0", "2", "1", "0", "0", "1"]
    assert texts(matrix.get_yticklabels()) == ["setosa", "versicolor", "virginica"]
    assert (matrix.get_xlabel(), matrix.get_ylabel()) == ("Predicted label", "True label")
    assert matrix.get_title() == "Confusion matrix, 6 validation rows"
    scores, reliability = report.axes
    assert texts(scores.texts) == ["1.00", "0.67", "0.50", "0.50", "0.67", "1.00"] + ["0.67"] * 3
    assert texts(scores.get_xticklabels())[0] == "setosa\n(2 rows)"
    (right,) = (line for line in reliability.lines if line.get_label() == "served")
    np.testing.assert_allclose(right.get_xdata(), [0.6])
    np.testing.assert_allclose(right.get_ydata(), [4 / 6])


def test_a_regression_is_shown_by_its_values_and_residuals() -> None:
    truth, found = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])

    values, residuals = (
        np.asarray(figure.axes[0].collections[0].get_offsets()).tolist()
        for figure in draw(truth, {"served": Predictions(found, None)}, LINE)
    )

    assert values == [[1.5, 1.0], [2.0, 2.0], [3.0, 4.0]]
    assert residuals == [[1.5, -0.5], [2.0, 0.0], [3.0, 1.0]]


def test_the_importance_of_features_is_drawn_with_the_largest_on_top() -> None:
    (axes,) = draw_importance({"width": 0.2, "색": 0.05, "height": 0.7}).axes
    assert texts(axes.get_yticklabels())[1:] == ["width", "height"]


def test_names_that_no_font_has_are_drawn_as_their_place_and_without_a_warning() -> None:
    unknown = "\U0001f9ff"
    assert drawable(["setosa", unknown], "class") == ["setosa", "class 1"]
    raw = IRIS.model_dump(mode="json")
    raw["classes"][1]["label"] = unknown
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in draw(TRUTH, {"served": Predictions(TRUTH, None)}, Target.model_validate(raw)):
            figure.savefig(io.BytesIO())
