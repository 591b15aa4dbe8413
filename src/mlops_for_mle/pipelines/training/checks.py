"""Checks: whether a snapshot is fit to train on, and remarks on a model."""

from collections.abc import Iterator
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import encoded_columns
from mlops_for_mle.pipelines.training.nodes import Trained
from mlops_for_mle.pipelines.training.options import DataCheckOptions
from mlops_for_mle.releases.metrics import format_metric

# Features are scored on no more rows than these; on fewer, one may tell the target by chance.
_MAX_SAMPLE = 5_000
_MIN_SAMPLE = 50
# A column with no more values than these holds categories, not identifiers; and a value that more
# than one in so many rows has identifies no row.
_MAX_CATEGORIES = 50

# A model that keeps less of its gain over a constant answer on validation rows overfits.
_MIN_KEPT = 0.5
# The standard deviation over the folds, as a share of their mean.
_MAX_SPREAD = 0.25
# Of what all features gain; and of what could be gained, or the best of many that are noise would
# do what a poor model does.
_NEARLY_ALL = 0.98
_MIN_GAIN = 0.5
_MAX_OVERLAP = 0.05
_MANY_TIMESTAMPS = 20
# As a share of the largest contribution: where many features share, each has little of their sum.
_MIN_CONTRIBUTION = 0.02
_MAX_REMARK_LENGTH = 200


def check(
    features: pd.DataFrame, truth: npt.NDArray[Any], contract: Contract, options: DataCheckOptions
) -> tuple[dict[str, Any], list[str]]:
    """What is found of encoded rows, and a sentence with its remedy for each limit not kept."""
    target, problems = contract.target, []
    # Equal features with another label are another row.
    is_first = ~features.assign(**{target.column: truth}).duplicated()
    quality: dict[str, Any] = {"rows": len(features), "distinct_rows": int(is_first.sum())}
    if quality["distinct_rows"] < (options.minimum_rows or 0):
        problems.append(
            f"it has {quality['distinct_rows']} distinct rows, {options.minimum_rows} are needed: "
            "ingest more, or lower data_checks.minimum_rows"
        )
    if target.classes:
        by_code = pd.Series(truth[is_first]).value_counts()
        counts = {label: int(by_code.get(code, 0)) for code, label in target.labels.items()}
        quality["distinct_rows_by_class"] = counts
        least = options.minimum_rows_per_class or 0
        if rare := ", ".join(f"{label!r} {rows}" for label, rows in counts.items() if rows < least):
            problems.append(
                f"these classes are too rare to learn, with so many distinct rows of at least "
                f"{least}: {rare}; ingest more, merge them into others, have their rows rejected "
                "(--missing CLASS of kedro contract infer), or try with fewer "
                "(data_checks.minimum_rows_per_class, or its --minimum-class-rows)"
            )
    elif truth.min() == truth.max():
        problems.append(
            f"{target.column} has the same value in all {len(truth)} rows, so there is nothing to "
            "learn: ingest other rows, or choose another target"
        )
    if len(features) < _MIN_SAMPLE or problems:
        return quality, problems
    sample = features.sample(min(len(features), _MAX_SAMPLE), random_state=0)
    scores = _single_feature_scores(sample, truth[sample.index], contract)
    quality["single_feature_scores"] = scores
    limit = options.maximum_single_feature_score
    problems += [
        f"{name} alone tells {target.column} (cross-validated score {format_metric(score)}), so it "
        "probably holds the answer: leave it out of contract.features, or set "
        "data_checks.maximum_single_feature_score to null"
        for name, score in scores.items()
        if limit is not None and score > limit
    ]
    return quality, problems


def _single_feature_scores(
    features: pd.DataFrame, truth: npt.NDArray[Any], contract: Contract
) -> dict[str, float]:
    """How well each feature alone tells the target: a tree, cross-validated.

    Rows with the same rare value stand in one fold, so that identifiers tell nothing; those with a
    frequent one do not, or a column that is zero in all rows of a class would tell nothing, too.
    Scores are balanced accuracy for classes (0.5 for two classes is chance) and, for numbers, R2,
    or the square of the rank correlation where that is nearly 1 and larger.
    """
    is_classifier = contract.target.task == "classification"
    tree = (DecisionTreeClassifier if is_classifier else DecisionTreeRegressor)(random_state=0)
    metric = balanced_accuracy_score if is_classifier else r2_score
    folds = GroupKFold(5, shuffle=True, random_state=0)
    sources = np.array([column.source for column in encoded_columns(contract)])
    scores = {}
    for name in contract.features:
        column = features.loc[:, sources == name]
        equal = column.groupby(list(column.columns), dropna=False).ngroup().to_numpy()
        if equal.max() == 0:
            scores[name] = 0.0
            continue
        sizes = np.bincount(equal)
        is_rare = (len(sizes) > _MAX_CATEGORIES) & (sizes * _MAX_CATEGORIES <= len(equal))
        groups = np.where(is_rare[equal], equal, len(sizes) + np.arange(len(equal)))
        answers = cross_val_predict(tree, column.values, truth, groups=groups, cv=folds)
        score = metric(truth, answers)
        if not is_classifier and column.shape[1] == 1:
            ranks = spearmanr(column.iloc[:, 0], truth, nan_policy="omit")
            rank_score = np.nan_to_num(ranks[0]) ** 2
            score = rank_score if rank_score > max(score, _NEARLY_ALL) else score
        scores[name] = round(float(score), 6)
    return scores


def remarks(
    trained: Trained,
    metrics: dict[str, float],
    data_quality: dict[str, Any],
    importance: dict[str, float],
) -> Iterator[str]:
    """What a person should know of a model, its metrics, its search and its snapshot."""
    yield from _overlap(trained)
    yield from _overfitting(metrics, data_quality.get("single_feature_scores", {}))
    yield from _search_remarks(trained)
    least = _MIN_CONTRIBUTION * max(importance.values())
    idle = [name for name, size in importance.items() if size <= least]
    if idle:
        yield shorten(f"does nothing for the answers: {', '.join(idle)}", _MAX_REMARK_LENGTH)


def _overlap(trained: Trained) -> Iterator[str]:
    """What validation rows share with training rows, where the split does not prevent it."""
    examples = trained.examples
    rows, is_validation = examples.rows, examples.is_validation
    group, timestamp = examples.contract.group, examples.contract.timestamp
    if trained.training.split.by != "hash":
        return
    if group in rows:
        training_groups = rows[group][~is_validation].dropna()
        share = rows[group][is_validation].isin(training_groups).mean()
        if share > _MAX_OVERLAP:
            yield (
                f"{share:.0%} of the validation rows share their {group} with training rows: "
                "split.by: group would keep each on one side"
            )
    if timestamp in rows:
        times = rows[timestamp]
        is_long = times.max() - times.min() >= pd.Timedelta(days=1)
        if times.nunique() > _MANY_TIMESTAMPS and is_long:
            yield (
                f"rows are from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d} and validation "
                "rows are among them: split.by: time would validate on the newest"
            )


def _overfitting(metrics: dict[str, float], scores: dict[str, float]) -> Iterator[str]:
    """Overfitting; and a feature that alone does as well as all, by the snapshot's scores."""
    name = "r2" if "validation_rmse" in metrics else "balanced_accuracy"
    # R2 needs two rows.
    if f"validation_{name}" not in metrics:
        return
    training, validation = metrics[f"training_{name}"], metrics[f"validation_{name}"]
    constant = metrics[f"baseline_{name}"]
    if validation - constant < _MIN_KEPT * (training - constant):
        yield (
            f"it overfits: {name} is {format_metric(training)} on the rows that it was trained on "
            f"and {format_metric(validation)} on the others, where a constant answer has "
            f"{format_metric(constant)}"
        )
    best = max(scores, key=lambda feature: scores[feature], default="")
    least = max(_NEARLY_ALL * (validation - constant), _MIN_GAIN * (1 - constant))
    if len(scores) > 1 and validation > constant and scores[best] - constant >= least:
        yield (
            f"{best} alone does it: {name} {format_metric(scores[best])}, and "
            f"{format_metric(validation)} with all features"
        )


def _search_remarks(trained: Trained) -> Iterator[str]:
    """What a search or ``auto`` has tried: folds that disagree, best values at the edge."""
    if trained.trials is not None:
        scores = trained.trials.filter(regex=r"^(split\d+_test_score|fold\d+)$").abs().to_numpy()
        best = scores[0]
        if "estimator" in trained.trials:
            # The first is a constant answer; smaller errors are better.
            best = min(scores[1:], key=np.mean)
        if best.std(ddof=1) > _MAX_SPREAD * best.mean():
            yield (
                f"the folds disagree: their scores lie between {format_metric(best.min())} and "
                f"{format_metric(best.max())}, so rows are too few"
            )
    search = trained.training.search
    for name, values in search.space.items() if search else ():
        chosen = trained.parameters[name]
        are_numbers = all(isinstance(value, int | float) for value in values)
        if len(values) > 2 and are_numbers and chosen in (min(values), max(values)):
            yield f"the best {name}, {chosen}, is at the edge of what was tried"
