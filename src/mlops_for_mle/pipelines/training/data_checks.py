"""What a snapshot must be like before a model is trained on it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.errors import UserError
from mlops_for_mle.frames import row_groups
from mlops_for_mle.metric_names import metric_text
from mlops_for_mle.target import encode_target

# Estimates need no more rows than these, whatever the table has.
LARGEST_SAMPLE = 5_000
# A column with no more values than these holds categories, not rows that can be told by them.
_MOST_CATEGORIES = 50
# With fewer, a feature can seem to tell the target by chance.
SMALLEST_SAMPLE = 50

_LARGEST = float(np.finfo(np.float32).max)
_NEIGHBOURS = 10
_FOLDS = 5
_CONFIDENT = 0.8


class DataCheckOptions(Configuration):
    """What stops a training; each of the limits may be null, which switches its check off.

    Attributes:
        minimum_rows: Distinct rows, in all.
        minimum_rows_per_class: Distinct rows of each class.
        maximum_single_feature_score: How well one feature alone may tell the target in
            cross-validation: balanced accuracy for classes, R2 for numbers. More counts as leakage.
        allowed_predictors: Features that may tell the target alone.
        maximum_label_noise: The share of rows whose label contradicts those of like rows.
    """

    minimum_rows: int | None = Field(default=30, ge=1)
    minimum_rows_per_class: int | None = Field(default=5, ge=1)
    maximum_single_feature_score: float | None = Field(default=0.999, gt=0, le=1)
    allowed_predictors: tuple[str, ...] = ()
    maximum_label_noise: float | None = Field(default=0.1, ge=0, lt=1)


def check(rows: pd.DataFrame, contract: Contract, options: DataCheckOptions) -> dict[str, Any]:
    """Look at the rows of a snapshot.

    Returns:
        What was found, with the list ``problems``: one sentence with its remedy for each limit
        that is not kept.
    """
    from mlops_for_mle.pipelines.training.estimator import model_input

    features = model_input(rows, contract)
    target = rows[contract.target.column]
    distinct = _distinct(features, target)
    found: dict[str, Any] = {"rows": len(rows), "distinct_rows": int(distinct.sum())}
    problems = _check_counts(found, target[distinct], contract, options)
    problems += _check_sizes(features, target, contract)
    sample = _sample(len(rows))
    values, truth = features.iloc[sample], encode_target(target.iloc[sample], contract.target)
    if len(sample) >= SMALLEST_SAMPLE and not problems:
        scores = single_feature_scores(values, truth, contract)
        found["single_feature_scores"] = scores
        problems += _check_leakage(scores, contract, options)
        if contract.target.task == "classification":
            found["label_noise"] = noise = label_noise(values, truth)
            limit = options.maximum_label_noise
            if limit is not None and noise > limit:
                problems.append(
                    f"about {noise:.0%} of the labels contradict those of like rows (allowed are "
                    f"{limit:.0%}): look at how {contract.target.column} comes about, or raise "
                    "data_checks.maximum_label_noise"
                )
    return found | {"problems": problems}


def scarce_classes(
    rows: pd.DataFrame, contract: Contract, options: DataCheckOptions
) -> dict[str, str]:
    """What each class has that has too few distinct rows to be learned and validated.

    Returns:
        By the label of the class, the words ``3 distinct rows of the 5 needed``.
    """
    from mlops_for_mle.pipelines.training.estimator import model_input

    if contract.target.task != "classification":
        return {}
    target = rows[contract.target.column]
    counts = target[_distinct(model_input(rows, contract), target)].value_counts()
    # The split needs one row to learn from and one to validate on.
    needed = max(2, options.minimum_rows_per_class or 0)
    return {
        one.label: f"{counts.get(one.value, 0)} distinct rows of the {needed} needed"
        for one in contract.target.classes
        if counts.get(one.value, 0) < needed
    }


def require_good(found: dict[str, Any], source: str) -> None:
    """Stop when a check has found a problem.

    Raises:
        UserError: With all problems and their remedies.
    """
    if found["problems"]:
        raise UserError(
            f"{source} is not fit to train on: {'; '.join(found['problems'])}. Nothing was trained."
        )


def single_feature_scores(
    features: pd.DataFrame, target: npt.NDArray[Any], contract: Contract
) -> dict[str, float]:
    """How well each feature alone tells the target: a tree, cross-validated.

    Equal values stand in one fold, so that a column of identifiers tells nothing; where there are
    few values, they may also stand in several, or a copy of the target would tell nothing either.
    Scores are balanced accuracy for classes (0.5 for two classes is chance) and, for numbers, R2
    or the square of the rank correlation, whichever is larger.
    """
    from scipy.stats import spearmanr
    from sklearn.metrics import balanced_accuracy_score, r2_score
    from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    is_classifier = contract.target.task == "classification"
    kind = DecisionTreeClassifier if is_classifier else DecisionTreeRegressor
    score = balanced_accuracy_score if is_classifier else r2_score
    scores = {}
    columns: dict[str, list[str]] = {}
    for one in encoding_of(contract).columns:
        columns.setdefault(one.source, []).append(one.name)
    for name, parts in columns.items():
        column = features[parts]
        groups = row_groups(column)
        folds = min(_FOLDS, groups.nunique())
        if folds < 2:
            scores[name] = 0.0
            continue
        tree = kind(random_state=0)
        grouped = GroupKFold(folds, shuffle=True, random_state=0)
        cuts = [list(grouped.split(column, groups=groups))]
        if groups.nunique() <= _MOST_CATEGORIES:
            cuts.append(list(KFold(_FOLDS, shuffle=True, random_state=0).split(column)))
        value = max(
            float(score(target, cross_val_predict(tree, column, target, cv=cut))) for cut in cuts
        )
        if not is_classifier and len(parts) == 1:
            ranks = spearmanr(column[parts[0]], target, nan_policy="omit")
            value = max(value, float(np.nan_to_num(ranks[0])) ** 2)
        scores[name] = round(value, 6)
    return scores


def label_noise(features: pd.DataFrame, target: npt.NDArray[Any]) -> float:
    """Estimate the share of wrong labels.

    A label counts as wrong where the nearest rows of other folds agree on another class, more than
    they would because that class is frequent. This is the idea of confident learning (Northcutt,
    Jiang and Chuang 2021, doi:10.1613/jair.1.12125) with nearest neighbours as the model.

    Where labels are wrong at random, the neighbours are wrong as well: a fifth of such labels is
    estimated as an eighth, and the estimate falls again beyond a quarter. It is never much larger
    than the truth.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import KFold
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = min(_FOLDS, len(target))
    neighbours = min(_NEIGHBOURS, len(target) // 2)
    model = make_pipeline(
        SimpleImputer(keep_empty_features=True), StandardScaler(), KNeighborsClassifier(neighbours)
    )
    cut = KFold(folds, shuffle=True, random_state=0)
    classes, codes = np.unique(target, return_inverse=True)
    # Folds may lack a rare class, whose column then holds zeros.
    probabilities = np.zeros((len(target), len(classes)))
    for learn, judge in cut.split(features):
        model.fit(features.iloc[learn], codes[learn])
        probabilities[np.ix_(judge, model.classes_)] = model.predict_proba(features.iloc[judge])
    other = probabilities.copy()
    other[np.arange(len(codes)), codes] = 0.0
    shares = np.bincount(codes) / len(codes)
    needed = np.maximum(_CONFIDENT, (1 + shares) / 2)
    return round(float(np.mean((other >= needed).any(axis=1))), 6)


def _distinct(features: pd.DataFrame, target: "pd.Series[Any]") -> "pd.Series[bool]":
    # Equal features with another label are another row.
    return ~pd.DataFrame({"row": row_groups(features), "target": target}).duplicated()


def _check_counts(
    found: dict[str, Any],
    distinct_target: "pd.Series[Any]",
    contract: Contract,
    options: DataCheckOptions,
) -> list[str]:
    problems = []
    smallest = options.minimum_rows
    if smallest is not None and found["distinct_rows"] < smallest:
        problems.append(
            f"it has {found['distinct_rows']} distinct rows, {smallest} are needed: ingest more, "
            "or lower data_checks.minimum_rows"
        )
    if contract.target.task != "classification":
        return problems
    counts = distinct_target.value_counts()
    by_class = {one.label: int(counts.get(one.value, 0)) for one in contract.target.classes}
    found["distinct_rows_by_class"] = by_class
    smallest = options.minimum_rows_per_class
    if smallest is not None:
        problems += [
            f"class {label} has {count} distinct rows, {smallest} are needed: ingest more, or "
            "lower data_checks.minimum_rows_per_class"
            for label, count in by_class.items()
            if count < smallest
        ]
    return problems


def _check_sizes(features: pd.DataFrame, target: "pd.Series[Any]", contract: Contract) -> list[str]:
    """Trees, and the served form of most models, hold numbers in float32."""
    columns = {one.source: features[one.name] for one in encoding_of(contract).columns}
    if contract.target.task == "regression":
        columns[contract.target.column] = target
    return [
        f"{name} holds {float(values.abs().max()):g}, which is beyond float32 ({_LARGEST:g}), in "
        "which models compute: correct such rows, store it in a larger unit, or narrow its range "
        "in the contract"
        for name, values in columns.items()
        if float(values.abs().max()) > _LARGEST
    ]


def _check_leakage(
    scores: dict[str, float], contract: Contract, options: DataCheckOptions
) -> list[str]:
    limit = options.maximum_single_feature_score
    if limit is None:
        return []
    return [
        f"{name} alone tells {contract.target.column} (cross-validated score "
        f"{metric_text(score)}), so it probably holds the answer: leave it out of "
        "contract.features, or name it in data_checks.allowed_predictors"
        for name, score in scores.items()
        if score > limit and name not in options.allowed_predictors
    ]


def _sample(count: int) -> npt.NDArray[np.int64]:
    if count <= LARGEST_SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, LARGEST_SAMPLE, replace=False))
