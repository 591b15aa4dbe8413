import io
import warnings

import numpy as np
from matplotlib.figure import Figure

from mlops_for_mle.contract import Target
from mlops_for_mle.pipelines.training.plots import draw, draw_importance, drawable
from mlops_for_mle.releases.predictor import Predictions
from tests.pipelines.training.examples import LINE_CONTRACT
from tests.releases import IRIS_CONTRACT

IRIS, LINE = IRIS_CONTRACT.target, LINE_CONTRACT.target

TRUTH = np.array([0, 0, 1, 1, 1, 2])
FOUND = np.array([0, 1, 1, 1, 2, 2])


def answers(found: np.ndarray, chances: np.ndarray | None = None) -> dict[str, Predictions]:
    return {"served": Predictions(found, chances)}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_confusion_matrix_shows_each_count_and_class() -> None:
    figure, _ = draw(TRUTH, answers(FOUND), IRIS)
    axes = figure.axes[0]

    assert texts(figure) == ["1", "1", "0", "0", "2", "1", "0", "0", "1"]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["setosa", "versicolor", "virginica"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted label", "True label")
    assert axes.get_title() == "Confusion matrix, 6 validation rows"


def test_the_importance_of_features_is_drawn_with_the_largest_on_top() -> None:
    (axes,) = draw_importance({"width": 0.2, "색": 0.05, "height": 0.7}).axes

    assert [label.get_text() for label in axes.get_yticklabels()][1:] == ["width", "height"]
    assert [bar.get_width() for bar in axes.patches] == [0.05, 0.2, 0.7]


def test_the_report_shows_the_scores_of_each_class() -> None:
    _, figure = draw(TRUTH, answers(FOUND), IRIS)

    assert texts(figure) == ["1.00", "0.67", "0.50", "0.50", "0.67", "1.00", "0.67", "0.67", "0.67"]
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["setosa\n(2 rows)", "versicolor\n(3 rows)", "virginica\n(1 rows)"]
    assert figure.axes[0].get_title() == "Validation scores by class"


def test_how_often_a_probability_is_right_is_drawn_beside_the_scores() -> None:
    chances = np.eye(3)[FOUND] * 0.4 + 0.2

    _, figure = draw(TRUTH, answers(FOUND, chances), IRIS)

    (right,) = (line for line in figure.axes[1].lines if line.get_label() == "served")
    np.testing.assert_allclose(right.get_xdata(), [0.6])
    np.testing.assert_allclose(right.get_ydata(), [4 / 6])


def test_a_regression_is_shown_by_its_values_and_residuals() -> None:
    truth, found = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])

    values, residuals = (
        np.asarray(figure.axes[0].collections[0].get_offsets()).tolist()
        for figure in draw(truth, answers(found), LINE)
    )

    assert values == [[1.5, 1.0], [2.0, 2.0], [3.0, 4.0]]
    assert residuals == [[1.5, -0.5], [2.0, 0.0], [3.0, 1.0]]


def test_names_that_no_font_has_are_drawn_as_their_place_and_without_a_warning() -> None:
    unknown = "\U0001f9ff"
    assert drawable(["setosa", unknown], "class") == ["setosa", "class 1"]
    raw = IRIS.model_dump(mode="json")
    raw["classes"][1]["label"] = unknown
    truth = np.array([0, 1, 2, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in draw(truth, answers(truth), Target.model_validate(raw)):
            figure.savefig(io.BytesIO())
