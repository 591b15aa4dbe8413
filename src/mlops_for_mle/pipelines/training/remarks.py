"""What a person should look at in a trained model, a sentence each."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlops_for_mle.pipelines.training.options import SearchOptions
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
) -> tuple[str, ...]:
    """Look at a model, its metrics, its search and what was found of its snapshot."""
    search, task = trained.training.search, trained.examples.contract.target.task
    scores = data_quality.get("single_feature_scores", {})
    found = [_overlap(trained), _overfitting(metrics, task), _single_feature(metrics, scores)]
    if trained.trials is not None:
        found.append(_unstable_folds(trained.trials))
    if search is not None:
        found += _edges(search, trained.parameters)
    return tuple(one for one in [*found, _idle_features(importance)] if one)


def _overlap(trained: "Trained") -> str | None:
    """What a validation row could tell of the training rows, and the split does not prevent."""
    examples, split = trained.examples, trained.training.split
    is_held_back, column = examples.is_validation, examples.contract.timestamp
    if split.by == "time":
        hashes = row_hashes(examples.features, 0)
        share = np.isin(hashes[is_held_back], hashes[~is_held_back]).mean()
        return (
            f"{share:.0%} of the validation rows equal a training row" if share > _EQUAL else None
        )
    if split.by == "group" or column not in examples.rows:
        return None
    times = examples.rows[column]
    if times.nunique() <= _MANY_TIMES or times.max() - times.min() < pd.Timedelta(days=1):
        return None
    return (
        f"rows are from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d} and validation rows are "
        "among them: split.by: time would validate on the newest"
    )


def _overfitting(metrics: dict[str, float], task: str) -> str | None:
    name = "rmse" if task == "regression" else "balanced_accuracy"
    learned, kept, constant = (
        metrics[f"{of}_{name}"] for of in ("training", "validation", "baseline")
    )
    if abs(kept - constant) >= _KEPT * abs(learned - constant):
        return None
    return (
        f"it overfits: {name} is {metric_text(learned)} on the rows that it was trained on and "
        f"{metric_text(kept)} on the others, where a constant answer has {metric_text(constant)}"
    )


def _single_feature(metrics: dict[str, float], scores: dict[str, float]) -> str | None:
    """The scores of the snapshot's check are balanced accuracy and R2, as compared here."""
    if len(scores) < 2:
        return None
    name = max(scores, key=lambda one: scores[one])
    kind = "r2" if "validation_rmse" in metrics else "balanced_accuracy"
    chance = metrics.get(f"baseline_{kind}", 0.0)
    of_all = metrics.get(f"validation_{kind}", 1.0)
    if scores[name] - chance < _ALONE * (of_all - chance) or of_all <= chance:
        return None
    return (
        f"{name} alone does it: {kind} {metric_text(scores[name])}, and {metric_text(of_all)} "
        "with all features"
    )


def _unstable_folds(trials: pd.DataFrame) -> str | None:
    """Look at the best of what was tried, by a search or by ``auto``."""
    scores = trials.filter(regex=r"^(split\d+_test_score|fold\d+)$").abs().to_numpy()
    if "estimator" in trials:
        # The first is a constant answer.
        scores = scores[1:][scores[1:].mean(axis=1).argsort()]
    scores = scores[0]
    if scores.std(ddof=1) <= _LARGEST_SPREAD * scores.mean():
        return None
    low, high = metric_text(scores.min()), metric_text(scores.max())
    return f"the folds disagree: their scores lie between {low} and {high}, so rows are too few"


def _edges(search: SearchOptions, best: dict[str, Any]) -> list[str]:
    """Parameters whose best value is the smallest or the largest that was tried."""
    told = []
    for name, values in search.space.items():
        are_numbers = all(isinstance(one, int | float) for one in values)
        if len(values) > 2 and are_numbers and best[name] in (min(values), max(values)):
            told.append(f"the best {name}, {best[name]}, is at the edge of what was tried")
    return told


def _idle_features(importance: dict[str, float]) -> str | None:
    """Features that contribute next to nothing to any answer."""
    least = _IDLE * sum(importance.values())
    idle = [name for name, size in importance.items() if size < least]
    return f"does nothing for the answers: {', '.join(idle)}" if idle else None
