import io
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mlops_for_mle.pipelines.training.plot_fonts import drawable
from mlops_for_mle.pipelines.training.plots import plot_errors, plot_report
from tests.unit.conftest import IRIS_CONTRACT, LINE_CONTRACT

TRUTH = np.array([0, 0, 1, 1, 1, 2])
FOUND = np.array([0, 1, 1, 1, 2, 2])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_confusion_matrix_shows_each_count_and_class() -> None:
    figure = plot_errors(TRUTH, FOUND, IRIS_CONTRACT)
    axes = figure.axes[0]

    assert texts(figure) == ["1", "1", "0", "0", "2", "1", "0", "0", "1"]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["setosa", "versicolor", "virginica"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert axes.get_title() == "Confusion matrix, 6 validation rows"


def test_the_report_shows_the_scores_of_each_class() -> None:
    figure = plot_report(TRUTH, FOUND, IRIS_CONTRACT)

    assert texts(figure) == ["1.00", "0.67", "0.50", "0.50", "0.67", "1.00", "0.67", "0.67", "0.67"]
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["setosa\n(2 rows)", "versicolor\n(3 rows)", "virginica\n(1 rows)"]


def test_a_class_that_is_never_found_counts_as_zero() -> None:
    figure = plot_report(np.array([0, 1, 2]), np.array([0, 1, 1]), IRIS_CONTRACT)

    assert texts(figure)[2::3] == ["0.00", "0.00", "0.00"]


def test_a_regression_is_shown_by_its_values_and_residuals() -> None:
    truth, found = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])

    points = plot_errors(truth, found, LINE_CONTRACT).axes[0].collections[0].get_offsets()
    bars = plot_report(truth, found, LINE_CONTRACT).axes[0].patches

    assert np.asarray(points).tolist() == [[1.0, 1.5], [2.0, 2.0], [4.0, 3.0]]
    assert sum(bar.get_height() for bar in bars) == 3


@pytest.mark.parametrize("draw", [plot_errors, plot_report])
@pytest.mark.parametrize("contract", [IRIS_CONTRACT, LINE_CONTRACT])
def test_every_picture_can_be_written(draw, contract) -> None:
    content = io.BytesIO()

    draw(TRUTH, FOUND, contract).savefig(content, format="png")

    with Image.open(content) as image:
        assert min(image.size) > 200
        assert len(image.convert("L").getcolors()) > 10


def test_names_that_no_font_has_are_drawn_as_their_place_and_without_a_warning():
    unknown = "\U0001f9ff"
    assert drawable(["setosa", unknown], "class") == ["setosa", "class 1"]

    raw = IRIS_CONTRACT.model_dump(mode="json")
    raw["target"]["classes"][1]["label"] = unknown
    contract = type(IRIS_CONTRACT).model_validate(raw)
    truth = np.array([0, 1, 2, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (plot_errors(truth, truth, contract), plot_report(truth, truth, contract)):
            figure.savefig(io.BytesIO())
