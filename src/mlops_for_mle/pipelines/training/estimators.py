"""Which models can be trained, what stands in front of them, and the search for parameters."""

import logging
import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import (
    EncodedColumn,
    Matrix,
    encoded_columns,
    is_plain,
    possible_codes,
)
from mlops_for_mle.contract.model import Feature, Task
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training import split
from mlops_for_mle.pipelines.training.nodes import Examples
from mlops_for_mle.pipelines.training.options import (
    EstimatorName,
    EstimatorOptions,
    SearchOptions,
    TrainingOptions,
)

_LOGGER = logging.getLogger(__name__)

ESTIMATOR = "estimator"
ROUND = "round"

_MANY_ROWS = 50_000


def _both(stem: str) -> dict[Task, str]:
    return {"classification": f"{stem}Classifier", "regression": f"{stem}Regressor"}


ESTIMATOR_CLASSES: Mapping[EstimatorName, Mapping[Task, str]] = {
    "logistic": {"classification": "sklearn.linear_model.LogisticRegression"},
    "ridge": {"regression": "sklearn.linear_model.Ridge"},
    "svc": {"classification": "sklearn.svm.SVC"},
    "random_forest": _both("sklearn.ensemble.RandomForest"),
    "histogram_gradient_boosting": _both("sklearn.ensemble.HistGradientBoosting"),
    "lightgbm": _both("lightgbm.LGBM"),
    "voting": _both("sklearn.ensemble.Voting"),
}
"""The class of each short name, by task."""

_DEFAULTS: Mapping[EstimatorName, Mapping[str, Any]] = {
    "logistic": {"max_iter": 1000},
    # Fully grown trees over many rows would make a release of hundreds of megabytes.
    "random_forest": {"n_estimators": 100, "min_samples_leaf": 3, "max_depth": 16},
    # The same trees on every machine, and as many threads as OpenMP is allowed.
    "lightgbm": {"deterministic": True, "force_row_wise": True, "verbosity": -1, "n_jobs": 0},
}


def estimator_names(task: Task) -> list[EstimatorName]:
    """The short names that are for a task, the default first."""
    return [name for name, classes in ESTIMATOR_CLASSES.items() if task in classes]


def voting_members(task: Task) -> list[EstimatorOptions]:
    """The models whose mean ``voting`` answers: a linear one and regularised boosting."""
    boosting = {"learning_rate": 0.05, "max_iter": 500, "max_leaf_nodes": 15}
    boosting |= {"l2_regularization": 1.0, "early_stopping": True, "n_iter_no_change": 20}
    trees: dict[str, Any] = {"name": "histogram_gradient_boosting", "parameters": boosting}
    return [EstimatorOptions(name=estimator_names(task)[0]), EstimatorOptions(**trees)]


def auto_candidates(task: Task) -> list[EstimatorOptions]:
    """What ``auto`` chooses from, the simplest first: a mean varies less than trees alone."""
    linear, trees = voting_members(task)
    candidates = [linear, EstimatorOptions(name="voting"), trees]
    if _has_lightgbm():
        lightgbm = {"learning_rate": 0.05, "n_estimators": 200, "num_leaves": 15, "reg_lambda": 1.0}
        candidates.append(EstimatorOptions(name="lightgbm", parameters=lightgbm))
    return candidates


def build_estimator(options: EstimatorOptions, contract: Contract, seed: int) -> Pipeline:
    """Make the unfitted pipeline: what the contract's columns need, then the estimator.

    Regressions by a short name learn their target scaled. Without, boosting stops early on small
    numbers, and the float32 that trees answer in the served form cannot hold numbers far from zero
    and close to one another. Losses that need positive numbers go with ``class_path``.
    """
    task = contract.target.task
    name = options.name or estimator_names(task)[0]
    path = options.class_path or ESTIMATOR_CLASSES[name].get(task, "sklearn.")
    module, _, class_name = path.rpartition(".")
    estimator_class = getattr(import_module(module), class_name, None)
    mixin = ClassifierMixin if task == "classification" else RegressorMixin
    if not isinstance(estimator_class, type) or not issubclass(estimator_class, mixin):
        raise ConfigurationError(
            f"training.estimator: contract {contract.name} needs a model for {task}, found "
            f"{options.class_path or name}; for name choose {', '.join(estimator_names(task))}, "
            "for class_path any such class of scikit-learn"
        )
    is_named = options.class_path is None
    parameters = {**(_DEFAULTS.get(name, {}) if is_named else {}), **options.parameters}
    if is_named and name == "voting":
        members = voting_members(task)
        models = [(str(member.name), build_estimator(member, contract, seed)) for member in members]
        if task == "classification":
            parameters = {"voting": "soft", "flatten_transform": False} | parameters
        return Pipeline([(ESTIMATOR, estimator_class(models).set_params(**parameters))])
    estimator = estimator_class().set_params(**parameters)
    if "random_state" in estimator.get_params() and "random_state" not in parameters:
        estimator.set_params(random_state=seed)
    if is_named and task == "regression":
        estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
    is_tree = module.startswith(("sklearn.ensemble", "sklearn.tree", "lightgbm"))
    steps = _preprocessing(contract, is_scaled=not is_tree)
    if is_tree:
        # They compare with thresholds, which the served form holds in float32. np.asarray rather
        # than a function of ours, so that the logged model loads without this package.
        rounding = FunctionTransformer(np.asarray, kw_args={"dtype": np.float32})
        steps.append((ROUND, rounding))
    return Pipeline([*steps, (ESTIMATOR, estimator)])


def inner_estimator(model: Pipeline) -> Any:
    """The estimator of a pipeline, fitted or not, within its calibration or scaled target."""
    last = model.steps[-1][1]
    if hasattr(last, "calibrated_classifiers_"):
        return last.calibrated_classifiers_[0].estimator
    return getattr(last, "regressor_", getattr(last, "regressor", last))


def out_of_fold(model: Pipeline, train: Examples, folds: split.Folds) -> list[Matrix]:
    """The outputs of a model for the test rows of each fold.

    These are its probabilities, else its decision function, else its predictions.
    """
    outputs = []
    for train_rows, test_rows in folds:
        fitted = clone(model).fit(train.features.iloc[train_rows], train.truth[train_rows])
        methods = ("predict_proba", "decision_function", "predict")
        method = next(name for name in methods if hasattr(fitted, name))
        outputs.append(getattr(fitted, method)(train.features.iloc[test_rows]))
    return outputs


def choose_estimator(
    train: Examples, folds: split.Folds, seed: int
) -> tuple[EstimatorOptions, pd.DataFrame, list[Matrix]]:
    """Choose the simplest estimator that is not shown to be worse than the best one.

    It is worse where its error in the same folds, log loss or RMSE, is larger by more than one
    standard error of the difference: the rule of Breiman et al., Classification and Regression
    Trees, 1984, 3.4.3, on paired folds. But for the linear one, what cannot be fitted to so few
    rows is not chosen.

    Returns:
        The estimator; the errors of each by fold, those of a constant answer first; and the
        ``out_of_fold`` outputs of the chosen one.
    """
    target = train.contract.target
    candidates = {str(options.name): options for options in auto_candidates(target.task)}
    models: dict[str, Any] = {"constant": DummyClassifier() if target.classes else DummyRegressor()}
    for name, options in candidates.items():
        models[name] = build_estimator(options, train.contract, seed)
    members = [str(member.name) for member in voting_members(target.task)]
    outputs = {}
    for name, model in models.items():
        try:
            if name != "voting":
                outputs[name] = out_of_fold(model, train, folds)
        except ValueError as error:
            if name == members[0]:
                raise
            _LOGGER.warning("%s is no candidate: %s", name, error)
    if outputs.keys() >= set(members):
        # The outputs of its members are known, so it need not be fitted.
        pairs = zip(*(outputs[name] for name in members), strict=True)
        outputs["voting"] = [np.mean(pair, axis=0) for pair in pairs]
    measure: Any = root_mean_squared_error
    if target.classes:
        measure = partial(log_loss, labels=target.class_codes)
    truths = [train.truth[test_rows] for _, test_rows in folds]
    errors = pd.DataFrame(
        {name: list(map(measure, truths, outputs[name])) for name in models if name in outputs}
    ).T.add_prefix("fold")
    compared = errors.drop(index="constant")
    excess = compared - compared.loc[str(compared.mean(axis=1).idxmin())]
    # Simpler ones stand first.
    chosen = str((excess.mean(axis=1) <= excess.sem(axis=1)).idxmax())
    table = errors.assign(error=errors.mean(axis=1), standard_error=errors.sem(axis=1))
    return candidates[chosen], table.rename_axis("estimator").reset_index(), outputs[chosen]


def search_parameters(
    train: Examples, training: TrainingOptions, search: SearchOptions
) -> tuple[EstimatorOptions, pd.DataFrame]:
    """Find the best combination of the search space by cross-validation.

    A combination that cannot be scored in every fold is never the best, and it is an error where
    none can.

    Returns:
        The estimator with the best combination, and all that were tried with their scores, the
        best first.
    """
    estimator = training.estimator
    model = build_estimator(estimator, train.contract, training.seed)
    prefix = f"{ESTIMATOR}__"
    if isinstance(model[-1], TransformedTargetRegressor):
        prefix += "regressor__"
    space = {prefix + name: values for name, values in search.space.items()}
    # As many trials as there are combinations are all of them, each once.
    count = search.maximum_trials or math.prod(map(len, space.values()))
    folds = split.folds(train, training, search.folds)
    options: dict[str, Any] = {"scoring": search.scoring, "cv": folds, "refit": False}
    searcher = RandomizedSearchCV(model, space, n_iter=count, random_state=training.seed, **options)
    with search.engine.running(), warnings.catch_warnings(), suppress(ValueError):
        # It warns in several lines of each combination that cannot be scored; logged below.
        warnings.simplefilter("ignore")
        searcher.fit(train.features, train.truth)
    if not np.isfinite(getattr(searcher, "best_score_", np.nan)):
        # None can be scored; the error of a single one says why.
        searcher.set_params(n_iter=1, error_score="raise")
        searcher.fit(train.features, train.truth)
        raise UserError(
            f"training.search: {search.scoring} is not defined in every one of {search.folds} "
            "folds, so no combination can be chosen: choose fewer folds or another score."
        )
    results = pd.DataFrame(searcher.cv_results_).sort_values("rank_test_score", ignore_index=True)
    results = results.rename(columns=lambda name: name.removeprefix(f"param_{prefix}"))
    trials = results[[*search.space, *results.filter(regex="_test_score$"), "mean_fit_time"]]
    unscored = trials.loc[trials["mean_test_score"].isna(), list(search.space)]
    for trial in unscored.to_dict("records"):
        _LOGGER.warning("search: cannot be scored in every fold, does not count: %s", trial)
    best = {name.removeprefix(prefix): value for name, value in searcher.best_params_.items()}
    return estimator.model_copy(update={"parameters": estimator.parameters | best}), trials


def threads_for(row_count: int) -> threadpool_limits:
    """One thread for few rows: there, boosting spends its time waiting for other threads."""
    # The limit reaches only libraries that are loaded by now.
    _has_lightgbm()
    return threadpool_limits(1 if row_count < _MANY_ROWS else None, user_api="openmp")


def _has_lightgbm() -> bool:
    try:
        import_module("lightgbm")
        import_module("onnxmltools")
    except (ImportError, OSError):
        # Its wheel needs the system's OpenMP library, which a bare machine lacks.
        return False
    return True


def _preprocessing(contract: Contract, *, is_scaled: bool) -> list[tuple[str, Any]]:
    """The steps between the encoded matrix and the estimator.

    Statistics of the training rows replace what is missing, where the contract allows that;
    numbers and parts of dates are scaled; categories become one column each.
    """
    if is_plain(contract):
        return [("scaler", StandardScaler())] if is_scaled else []
    # Columns with the same treatment are transformed together, but for categories.
    by_treatment: dict[tuple[str, str], tuple[str, Any, list[int]]] = {}
    for position, column in enumerate(encoded_columns(contract)):
        feature = contract.features[column.source]
        steps = _treatment(column, feature, is_scaled)
        key = str(steps), column.source if feature.type == "category" else ""
        if key not in by_treatment:
            treatment = make_pipeline(*steps) if steps else "passthrough"
            by_treatment[key] = (f"{feature.type}_{position}", treatment, [])
        by_treatment[key][2].append(position)
    transformer = ColumnTransformer(list(by_treatment.values()), verbose_feature_names_out=False)
    return [("columns", transformer)]


def _treatment(column: EncodedColumn, feature: Feature, is_scaled: bool) -> list[Any]:
    steps: list[Any] = []
    is_category = feature.type == "category"
    if feature.missing not in ("reject", "separate"):
        value: Any = feature.constant
        if feature.missing == "constant":
            value = float(feature.category_codes[value] if is_category else value)
        options = {"fill_value": value, "keep_empty_features": True}
        steps.append(SimpleImputer(strategy=feature.missing, **options))
    if is_category:
        codes = [sorted(code for code in possible_codes(feature) if code >= 0)]
        steps.append(OneHotEncoder(categories=codes, handle_unknown="ignore", sparse_output=False))
    elif feature.type != "boolean" and is_scaled:
        if column.part == "days_since_1970":
            # A day beyond those that were seen counts as the last of them, as it does for trees: a
            # straight line says of a login two years ago whatever it likes.
            steps.append(MinMaxScaler(clip=True))
        steps.append(StandardScaler())
    return steps
