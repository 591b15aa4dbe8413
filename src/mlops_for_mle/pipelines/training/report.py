"""What a person is shown of a model: pictures of its validation, and remarks on what to look at."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    PredictionErrorDisplay,
    precision_recall_fscore_support,
)

from mlops_for_mle.contract import Target
from mlops_for_mle.pipelines.training.nodes import Trained
from mlops_for_mle.pipelines.training.snapshots import row_hashes
from mlops_for_mle.releases.metrics import metric_text
from mlops_for_mle.releases.predictor import Predictions

# The usual font, then those with Hangul and other scripts of East Asia on Linux, macOS, Windows.
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK KR", "Noto Sans KR", "NanumGothic"),
    *("Apple SD Gothic Neo", "AppleGothic", "Malgun Gothic", "UnDotum"),
)
_MOST_FEATURES = 30

# A model that keeps less of what it gains over a constant answer learns its rows by heart.
_KEPT = 0.5
# Of the mean over the folds.
_LARGEST_SPREAD = 0.25
_ALONE = 0.98
_EQUAL = 0.05
_MANY_TIMES = 20
# Of the contributions of all features.
_IDLE = 0.01


def draw(
    truth: npt.NDArray[Any], answers: Mapping[str, Predictions], target: Target
) -> tuple[Figure, Figure]:
    """Draw the confusion matrix and the scores by class, with how reliable probabilities are.

    For a regression, true values and residuals against predicted values. The first of the answers
    are those that are served; others have been before a calibration.
    """
    found = next(iter(answers.values())).values
    errors, report = (Figure(figsize=(5.2, 4.6), layout="constrained") for _ in range(2))
    shown = {name: one for name, one in answers.items() if one.probabilities is not None}
    report_axes, *others = report.subplots(1, 1 + bool(shown), squeeze=False)[0]
    axes, rows = errors.subplots(), f"{len(truth)} validation rows"
    with rc_context({"font.family": _families()}):
        if target.task == "regression":
            (name,) = drawable([target.column], "target")
            kinds = {"actual_vs_predicted": axes, "residual_vs_predicted": report_axes}
            for kind, place in kinds.items():
                PredictionErrorDisplay.from_predictions(
                    truth, found, kind=kind, ax=place, random_state=0
                )
                place.set_title(f"{name}, {rows}")
            return errors, report
        names = drawable([one.label for one in target.classes], "class")
        codes: dict[str, Any] = {"labels": target.class_codes}
        ConfusionMatrixDisplay.from_predictions(
            truth, found, **codes, display_labels=names, cmap="Blues", colorbar=False, ax=axes
        )
        axes.set_title(f"Confusion matrix, {rows}")
        scores = precision_recall_fscore_support(truth, found, **codes, zero_division=0)
        index = [f"{name}\n({count} rows)" for name, count in zip(names, scores[3], strict=True)]
        table = pd.DataFrame(np.transpose(scores[:3]), index, ["precision", "recall", "F1"])
        report.set_figwidth(max(5.2, 1.4 * len(names)) + 4.6 * bool(shown))
        title = "Validation scores by class"
        table.plot.bar(ax=report_axes, rot=0, width=0.8, ylim=(0, 1.12), title=title)
        bars: Any
        for bars in report_axes.containers:
            report_axes.bar_label(bars, fmt="%.2f", fontsize=8)
        report_axes.legend(ncols=3, loc="lower right")
        for place in others:
            _draw_reliability(place, truth, shown, target)
    return errors, report


def _draw_reliability(
    place: Any, truth: npt.NDArray[Any], answers: Mapping[str, Predictions], target: Target
) -> None:
    """How often the second of two classes, or of more the likeliest, is right at a probability."""
    codes = np.array(target.class_codes)
    for name, one in answers.items():
        found = np.asarray(one.probabilities)
        likeliest = found.argmax(axis=1) if len(codes) > 2 else np.ones(len(truth), np.intp)
        chances = found[np.arange(len(truth)), likeliest].clip(0, 1)
        bins: dict[str, Any] = {"strategy": "quantile", "n_bins": min(10, 2 + len(truth) // 20)}
        CalibrationDisplay.from_predictions(
            truth == codes[likeliest], chances, **bins, ax=place, name=name
        )
    place.set_title("How often a probability is right")
    place.set(xlabel="probability", ylabel="share of rows")


def draw_importance(importance: Mapping[str, float]) -> Figure:
    """Draw the mean size of each feature's contribution to an answer, of the largest."""
    largest = sorted(importance.items(), key=lambda one: one[1])[-_MOST_FEATURES:]
    names, sizes = zip(*largest, strict=True)
    figure = Figure(figsize=(5.2, 1.2 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    with rc_context({"font.family": _families()}):
        axes.barh(drawable(names, "feature"), sizes)
        axes.set_title("Mean contribution to an answer (Shapley values)")
    return figure


def drawable(names: Sequence[str], fallback: str) -> list[str]:
    """Names as the fonts here can draw them: themselves, or the fallback with their place."""
    known: set[int] = set()
    for family in _families():
        known.update(FT2Font(font_manager.findfont(family)).get_charmap())
    return [
        name if known.issuperset(map(ord, name)) else f"{fallback} {place}"
        for place, name in enumerate(names)
    ]


def _families() -> list[str]:
    present = set(font_manager.get_font_names())
    return [name for name in _FONTS if name in present]


def remarks(
    trained: Trained,
    metrics: dict[str, float],
    data_quality: dict[str, Any],
    importance: dict[str, float],
) -> Iterator[str]:
    """Look at a model, its metrics, its search and what was found of its snapshot."""
    yield from _overlap(trained)
    yield from _fit(metrics, data_quality.get("single_feature_scores", {}))
    yield from _trials(trained)
    is_wanted = trained.training.calibrate and trained.predictor.has_probabilities
    if is_wanted and not trained.is_calibrated:
        yield "its probabilities are as it gives them: they could not be calibrated"
    least = _IDLE * sum(importance.values())
    idle = [name for name, size in importance.items() if size < least]
    if idle:
        yield f"does nothing for the answers: {', '.join(idle)}"


def _overlap(trained: Trained) -> Iterator[str]:
    """What a validation row could tell of the training rows, and the split does not prevent."""
    examples, by = trained.examples, trained.training.split.by
    rows, is_held_back = examples.rows, examples.is_validation
    group, column = examples.contract.group, examples.contract.timestamp
    if by == "hash" and group in rows:
        known = rows[group][~is_held_back].dropna()
        share = rows[group][is_held_back].isin(known).mean()
        if share > _EQUAL:
            yield (
                f"{share:.0%} of the validation rows share their {group} with training rows: "
                "split.by: group would keep each on one side"
            )
    if by == "hash" and column in rows:
        times = rows[column]
        is_long = times.max() - times.min() >= pd.Timedelta(days=1)
        if times.nunique() > _MANY_TIMES and is_long:
            yield (
                f"rows are from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d} and validation "
                "rows are among them: split.by: time would validate on the newest"
            )
    if by == "time":
        hashes = row_hashes(examples.features, 0)
        share = np.isin(hashes[is_held_back], hashes[~is_held_back]).mean()
        if share > _EQUAL:
            yield f"{share:.0%} of the validation rows equal a training row"


def _fit(metrics: dict[str, float], scores: dict[str, float]) -> Iterator[str]:
    """Overfitting; and a feature that alone does it, by the scores of the snapshot's check."""
    is_regression = "validation_rmse" in metrics
    name = "rmse" if is_regression else "balanced_accuracy"
    learned, kept = metrics[f"training_{name}"], metrics[f"validation_{name}"]
    constant = metrics[f"baseline_{name}"]
    if abs(kept - constant) < _KEPT * abs(learned - constant):
        yield (
            f"it overfits: {name} is {metric_text(learned)} on the rows that it was trained on and "
            f"{metric_text(kept)} on the others, where a constant answer has "
            f"{metric_text(constant)}"
        )
    kind = "r2" if is_regression else "balanced_accuracy"
    chance, of_all = metrics.get(f"baseline_{kind}", 0.0), metrics.get(f"validation_{kind}", 1.0)
    best = max(scores, key=lambda one: scores[one], default="")
    if len(scores) > 1 and scores[best] - chance >= _ALONE * (of_all - chance) > 0:
        yield (
            f"{best} alone does it: {kind} {metric_text(scores[best])}, and {metric_text(of_all)} "
            "with all features"
        )


def _trials(trained: Trained) -> Iterator[str]:
    """What a search or ``auto`` has tried: folds that disagree, best values at the edge."""
    if trained.trials is not None:
        scores = trained.trials.filter(regex=r"^(split\d+_test_score|fold\d+)$").abs().to_numpy()
        best = scores[0]
        if "estimator" in trained.trials:
            # The first is a constant answer; smaller errors are better.
            best = min(scores[1:], key=np.mean)
        if best.std(ddof=1) > _LARGEST_SPREAD * best.mean():
            yield (
                f"the folds disagree: their scores lie between {metric_text(best.min())} and "
                f"{metric_text(best.max())}, so rows are too few"
            )
    search = trained.training.search
    for name, values in search.space.items() if search else ():
        chosen = trained.parameters[name]
        are_numbers = all(isinstance(one, int | float) for one in values)
        if len(values) > 2 and are_numbers and chosen in (min(values), max(values)):
            yield f"the best {name}, {chosen}, is at the edge of what was tried"
