"""What is looked at: whether a snapshot is fit to train on, and what to remark on a model."""

from collections.abc import Iterator
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
from mlops_for_mle.pipelines.training.split import row_hashes
from mlops_for_mle.releases.metrics import metric_text

# A feature is judged by no more rows than these, and with fewer it can tell the target by chance.
_LARGEST_SAMPLE = 5_000
_SMALLEST_SAMPLE = 50
# A column with no more values than these holds categories, not rows that can be told by them; and
# a value that so many could share evenly tells no row.
_MOST_CATEGORIES = 50

# A model that keeps less of what it gains over a constant answer learns its rows by heart.
_KEPT = 0.5
# Of the mean over the folds.
_LARGEST_SPREAD = 0.25
_ALONE = 0.98
_EQUAL = 0.05
_MANY_TIMES = 20
# Of the contributions of all features.
_IDLE = 0.01
_NAMED = 10


def check(
    features: pd.DataFrame, truth: npt.NDArray[Any], contract: Contract, options: DataCheckOptions
) -> tuple[dict[str, Any], list[str]]:
    """Look at encoded rows and what is to be answered for each.

    Returns:
        What was found; and for each limit that is not kept a sentence with its remedy.
    """
    target, problems = contract.target, []
    # Equal features with another label are another row.
    is_first = ~features.assign(**{target.column: truth}).duplicated()
    found: dict[str, Any] = {"rows": len(features), "distinct_rows": int(is_first.sum())}
    if found["distinct_rows"] < (options.minimum_rows or 0):
        problems.append(
            f"it has {found['distinct_rows']} distinct rows, {options.minimum_rows} are needed: "
            "ingest more, or lower data_checks.minimum_rows"
        )
    if target.classes:
        by_code = pd.Series(truth[is_first]).value_counts()
        counts = {label: int(by_code.get(code, 0)) for code, label in target.labels.items()}
        found["distinct_rows_by_class"] = counts
        problems += [
            f"class {label} has {count} distinct rows, {options.minimum_rows_per_class} are "
            "needed: ingest more, or lower data_checks.minimum_rows_per_class"
            for label, count in counts.items()
            if count < (options.minimum_rows_per_class or 0)
        ]
    elif truth.min() == truth.max():
        problems.append(
            f"{target.column} has the same value in all {len(truth)} rows, so there is nothing to "
            "learn: ingest other rows, or choose another target"
        )
    if len(features) < _SMALLEST_SAMPLE or problems:
        return found, problems
    sample = features.sample(min(len(features), _LARGEST_SAMPLE), random_state=0)
    scores = _single_feature_scores(sample, truth[sample.index], contract)
    found["single_feature_scores"] = scores
    limit = options.maximum_single_feature_score
    problems += [
        f"{name} alone tells {target.column} (cross-validated score {metric_text(score)}), so it "
        "probably holds the answer: leave it out of contract.features, or name it in "
        "data_checks.allowed_predictors"
        for name, score in scores.items()
        if limit is not None and score > limit and name not in options.allowed_predictors
    ]
    return found, problems


def _single_feature_scores(
    features: pd.DataFrame, truth: npt.NDArray[Any], contract: Contract
) -> dict[str, float]:
    """How well each feature alone tells the target: a tree, cross-validated.

    Equal values stand in one fold, so that a column of identifiers tells nothing; not so frequent
    ones, or it would tell nothing either that a value is zero, or missing, in all rows of a class.
    Scores are balanced accuracy for classes (0.5 for two classes is chance) and, for numbers, R2,
    or the square of the rank correlation where that is nearly 1 and larger.
    """
    is_classifier = contract.target.task == "classification"
    tree = (DecisionTreeClassifier if is_classifier else DecisionTreeRegressor)(random_state=0)
    score = balanced_accuracy_score if is_classifier else r2_score
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
        is_rare = (len(sizes) > _MOST_CATEGORIES) & (sizes * _MOST_CATEGORIES <= len(equal))
        groups = np.where(is_rare[equal], equal, len(sizes) + np.arange(len(equal)))
        told = score(truth, cross_val_predict(tree, column, truth, groups=groups, cv=folds))
        if not is_classifier and column.shape[1] == 1:
            ranks = spearmanr(column.iloc[:, 0], truth, nan_policy="omit")
            same_order = np.nan_to_num(ranks[0]) ** 2
            told = same_order if same_order > max(told, _ALONE) else told
        scores[name] = round(float(told), 6)
    return scores


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
        rest = f" and {len(idle) - _NAMED} more" if len(idle) > _NAMED else ""
        yield f"does nothing for the answers: {', '.join(idle[:_NAMED])}{rest}"


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
    gained = [constant - one if is_regression else one - constant for one in (kept, learned)]
    if gained[0] < _KEPT * gained[1]:
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
