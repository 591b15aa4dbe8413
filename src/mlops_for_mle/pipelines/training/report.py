"""Pictures of a model: its validation, and the importance of its features."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, PredictionErrorDisplay

from mlops_for_mle.contract import Target
from mlops_for_mle.contract.encoding import Matrix

# The usual font, then those with Hangul and other scripts of East Asia on Linux, macOS, Windows.
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK KR", "Noto Sans KR", "NanumGothic"),
    *("Apple SD Gothic Neo", "AppleGothic", "Malgun Gothic", "UnDotum"),
)
_MAX_FEATURES = 30
# With more of them the numbers cannot be read, and would take minutes to draw.
_MAX_CLASSES = 40


def draw(
    truth: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    probabilities: Mapping[str, Matrix],
    target: Target,
) -> tuple[Figure, Figure]:
    """Draw the confusion matrix, and its shares with how reliable probabilities are.

    For a regression, true values and residuals against predicted values. Probabilities come with
    the name of the model that gave them.
    """
    count, rows = 1 + bool(probabilities), f"{len(truth)} validation rows"
    errors = Figure(figsize=(5.2, 4.6), layout="constrained")
    report = Figure(figsize=(5.2 * count, 4.6), layout="constrained")
    axes, (report_axes, *more_axes) = errors.subplots(), report.subplots(1, count, squeeze=False)[0]
    with rc_context({"font.family": _families()}):
        if target.task == "regression":
            (name,) = drawable([target.column], "target")
            kinds = {"actual_vs_predicted": axes, "residual_vs_predicted": report_axes}
            for kind, plot_axes in kinds.items():
                PredictionErrorDisplay.from_predictions(
                    truth, predicted, kind=kind, ax=plot_axes, random_state=0
                )
                plot_axes.set_title(f"{name}, {rows}")
            return errors, report
        names = drawable(list(target.labels.values()), "class")
        style: dict[str, Any] = {"labels": target.class_codes, "display_labels": names}
        style |= {"include_values": len(names) <= _MAX_CLASSES, "cmap": "Blues", "colorbar": False}
        show = partial(ConfusionMatrixDisplay.from_predictions, truth, predicted, **style)
        show(ax=axes).ax_.set_title(f"Confusion matrix, {rows}")
        show(ax=report_axes, normalize="true").ax_.set_title("Shares of each true class")
        for axes in more_axes:
            _draw_reliability(axes, truth, probabilities, target)
    return errors, report


def _draw_reliability(
    axes: Any, truth: npt.NDArray[Any], by_model: Mapping[str, Matrix], target: Target
) -> None:
    """How often the second of two classes, or of more the likeliest, is right at a probability."""
    codes = np.array(target.class_codes)
    for name, probabilities in by_model.items():
        likeliest = probabilities.argmax(axis=1) if len(codes) > 2 else np.ones(len(truth), np.intp)
        chances = probabilities[np.arange(len(truth)), likeliest].clip(0, 1)
        bins: dict[str, Any] = {"strategy": "quantile", "n_bins": min(10, 2 + len(truth) // 20)}
        CalibrationDisplay.from_predictions(
            truth == codes[likeliest], chances, **bins, ax=axes, name=name
        )
    axes.set_title("How often a probability is right")
    axes.set(xlabel="probability", ylabel="share of rows")


def draw_importance(importance: Mapping[str, float]) -> Figure:
    """Draw the mean size of each feature's contribution to a prediction, the largest ones."""
    largest = pd.Series(importance).nlargest(_MAX_FEATURES)[::-1]
    figure = Figure(figsize=(5.2, 1.2 + 0.28 * len(largest)), layout="constrained")
    title = "Mean contribution to an answer (Shapley values)"
    with rc_context({"font.family": _families()}):
        largest.index = drawable(list(largest.index), "feature")
        largest.plot.barh(ax=figure.subplots(), title=title)
    return figure


def drawable(names: Sequence[str], fallback: str) -> list[str]:
    """Names as the fonts here can draw them: themselves, or the fallback with their position."""
    characters: set[int] = set()
    for family in _families():
        characters.update(FT2Font(font_manager.findfont(family)).get_charmap())
    return [
        name if characters.issuperset(map(ord, name)) else f"{fallback} {position}"
        for position, name in enumerate(names)
    ]


def _families() -> list[str]:
    present = set(font_manager.get_font_names())
    return [name for name in _FONTS if name in present]
