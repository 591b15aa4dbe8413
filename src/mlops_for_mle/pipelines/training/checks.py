"""What a snapshot must be like before a model is trained on it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import spearmanr
from sklearn.impute import SimpleImputer
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import encoded_columns
from mlops_for_mle.pipelines.training.options import DataCheckOptions
from mlops_for_mle.releases.metrics import metric_text

# Estimates need no more rows than these, whatever the table has.
_LARGEST_SAMPLE = 5_000
# With fewer, a feature can seem to tell the target by chance.
_SMALLEST_SAMPLE = 50
# A column with no more values than these holds categories, not rows that can be told by them.
_MOST_CATEGORIES = 50
_NEIGHBOURS = 10
_FOLDS = 5
_CONFIDENT = 0.8


def check(
    features: pd.DataFrame, truth: npt.NDArray[Any], contract: Contract, options: DataCheckOptions
) -> tuple[dict[str, Any], list[str]]:
    """Look at encoded rows and what is to be answered for each.

    Returns:
        What was found; and for each limit that is not kept a sentence with its remedy.
    """
    target = contract.target
    # Equal features with another label are another row.
    is_first = ~pd.concat([features, pd.Series(truth, features.index)], axis=1).duplicated()
    found: dict[str, Any] = {"rows": len(features), "distinct_rows": int(is_first.sum())}
    problems = []
    if found["distinct_rows"] < (options.minimum_rows or 0):
        problems.append(
            f"it has {found['distinct_rows']} distinct rows, {options.minimum_rows} are needed: "
            "ingest more, or lower data_checks.minimum_rows"
        )
    if target.task == "classification":
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
    features = features.sample(min(len(features), _LARGEST_SAMPLE), random_state=0)
    truth = truth[features.index]
    found["single_feature_scores"] = scores = single_feature_scores(features, truth, contract)
    limit = options.maximum_single_feature_score
    problems += [
        f"{name} alone tells {target.column} (cross-validated score {metric_text(score)}), so it "
        "probably holds the answer: leave it out of contract.features, or name it in "
        "data_checks.allowed_predictors"
        for name, score in scores.items()
        if limit is not None and score > limit and name not in options.allowed_predictors
    ]
    if target.task == "classification":
        found["label_noise"] = noise = label_noise(features, truth)
        if options.maximum_label_noise is not None and noise > options.maximum_label_noise:
            problems.append(
                f"about {noise:.0%} of the labels contradict those of like rows (allowed are "
                f"{options.maximum_label_noise:.0%}): look at how {target.column} comes about, or "
                "raise data_checks.maximum_label_noise"
            )
    return found, problems


def single_feature_scores(
    features: pd.DataFrame, truth: npt.NDArray[Any], contract: Contract
) -> dict[str, float]:
    """How well each feature alone tells the target: a tree, cross-validated.

    Equal values stand in one fold, so that a column of identifiers tells nothing; not so where
    there are few values, or a copy of the target would tell nothing either. Scores are balanced
    accuracy for classes (0.5 for two classes is chance) and, for numbers, R2 or the square of the
    rank correlation, whichever is larger.
    """
    is_classifier = contract.target.task == "classification"
    tree = (DecisionTreeClassifier if is_classifier else DecisionTreeRegressor)(random_state=0)
    score = balanced_accuracy_score if is_classifier else r2_score
    sources = np.array([column.source for column in encoded_columns(contract)])
    scores = {}
    for name in contract.features:
        column = features.loc[:, sources == name]
        equal = column.groupby(list(column.columns), dropna=False).ngroup().to_numpy()
        if equal.max() == 0:
            scores[name] = 0.0
            continue
        groups = equal if equal.max() >= _MOST_CATEGORIES else np.arange(len(equal))
        folds = GroupKFold(_FOLDS, shuffle=True, random_state=0)
        told = score(truth, cross_val_predict(tree, column, truth, groups=groups, cv=folds))
        if not is_classifier and column.shape[1] == 1:
            ranks = spearmanr(column.iloc[:, 0], truth, nan_policy="omit")
            told = max(told, np.nan_to_num(ranks[0]) ** 2)
        scores[name] = round(float(told), 6)
    return scores


def label_noise(features: pd.DataFrame, truth: npt.NDArray[Any]) -> float:
    """Estimate the share of wrong labels; it is hardly ever larger than the truth.

    A label counts as wrong where the nearest rows of other folds agree on another class, more than
    they would because that class is frequent: confident learning (Northcutt, Jiang and Chuang
    2021, doi:10.1613/jair.1.12125) with nearest neighbours as the model. Where labels are wrong at
    random, so are the neighbours': a fifth of such labels is estimated as an eighth.
    """
    neighbours = KNeighborsClassifier(min(_NEIGHBOURS, len(truth) // 2))
    model = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), neighbours)
    classes, codes = np.unique(truth, return_inverse=True)
    # Folds may lack a rare class, whose column then holds zeros.
    probabilities = np.zeros((len(codes), len(classes)))
    for learn, judge in KFold(_FOLDS, shuffle=True, random_state=0).split(features):
        model.fit(features.iloc[learn], codes[learn])
        probabilities[np.ix_(judge, model.classes_)] = model.predict_proba(features.iloc[judge])
    probabilities[np.arange(len(codes)), codes] = 0.0
    shares = np.bincount(codes) / len(codes)
    needed = np.maximum(_CONFIDENT, (1 + shares) / 2)
    return round(float(np.mean((probabilities >= needed).any(axis=1))), 6)
