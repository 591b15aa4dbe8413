"""What a person should look at in a trained model, a sentence each."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlops_for_mle.pipelines.training.splits import row_hashes
from mlops_for_mle.releases.metrics import metric_text

if TYPE_CHECKING:
    from mlops_for_mle.pipelines.training.nodes import Trained

# A model that keeps less of what it gains over a constant answer learns its rows by heart.
_KEPT = 0.5
# Of the mean over the folds.
_LARGEST_SPREAD = 0.25
_ALONE = 0.98
_EQUAL = 0.05
_MANY_TIMES = 20
# Of the contributions of all features.
_IDLE = 0.01


def of_model(
    trained: "Trained",
    metrics: dict[str, float],
    data_quality: dict[str, Any],
    importance: dict[str, float],
) -> Iterator[str]:
    """Look at a model, its metrics, its search and what was found of its snapshot."""
    yield from _overlap(trained)
    yield from _fit(metrics, data_quality.get("single_feature_scores", {}))
    yield from _trials(trained)
    least = _IDLE * sum(importance.values())
    idle = [name for name, size in importance.items() if size < least]
    if idle:
        yield f"does nothing for the answers: {', '.join(idle)}"


def _overlap(trained: "Trained") -> Iterator[str]:
    """What a validation row could tell of the training rows, and the split does not prevent."""
    examples, by = trained.examples, trained.training.split.by
    is_held_back, column = examples.is_validation, examples.contract.timestamp
    if by == "time":
        hashes = row_hashes(examples.features, 0)
        share = np.isin(hashes[is_held_back], hashes[~is_held_back]).mean()
        if share > _EQUAL:
            yield f"{share:.0%} of the validation rows equal a training row"
    elif by == "hash" and column in examples.rows:
        times = examples.rows[column]
        span = times.max() - times.min()
        if times.nunique() > _MANY_TIMES and span >= pd.Timedelta(days=1):
            yield (
                f"rows are from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d} and validation "
                "rows are among them: split.by: time would validate on the newest"
            )


def _fit(metrics: dict[str, float], scores: dict[str, float]) -> Iterator[str]:
    """Overfitting; and a feature that alone does it, by the scores of the snapshot's check."""
    is_regression = "validation_rmse" in metrics
    name = "rmse" if is_regression else "balanced_accuracy"
    learned, kept, constant = (
        metrics[f"{of}_{name}"] for of in ("training", "validation", "baseline")
    )
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


def _trials(trained: "Trained") -> Iterator[str]:
    """What a search or ``auto`` has tried: folds that disagree, best values at the edge."""
    if trained.trials is not None:
        scores = trained.trials.filter(regex=r"^(split\d+_test_score|fold\d+)$").abs().to_numpy()
        if "estimator" in trained.trials:
            # The first is a constant answer.
            scores = scores[1:][scores[1:].mean(axis=1).argsort()]
        if scores[0].std(ddof=1) > _LARGEST_SPREAD * scores[0].mean():
            low, high = metric_text(scores[0].min()), metric_text(scores[0].max())
            yield (
                f"the folds disagree: their scores lie between {low} and {high}, so rows are too "
                "few"
            )
    search = trained.training.search
    for name, values in search.space.items() if search else ():
        best = trained.parameters[name]
        are_numbers = all(isinstance(one, int | float) for one in values)
        if len(values) > 2 and are_numbers and best in (min(values), max(values)):
            yield f"the best {name}, {best}, is at the edge of what was tried"
