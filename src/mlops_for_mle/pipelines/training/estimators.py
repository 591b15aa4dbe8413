"""Which models can be trained, what stands in front of them, and the search for parameters.

scikit-learn is imported inside the functions, because every command imports this module.
"""

import logging
import math
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import encoded_columns, is_plain, possible_codes
from mlops_for_mle.contract.model import Task
from mlops_for_mle.errors import ConfigurationError, PrerequisiteError, UserError
from mlops_for_mle.pipelines.training.options import EstimatorName, EstimatorOptions, SearchOptions
from mlops_for_mle.pipelines.training.splits import Folds

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_LOGGER = logging.getLogger(__name__)

ESTIMATOR = "estimator"
ROUND = "round"

_MANY_ROWS = 50_000
# Parts of a date that only grow.
_DAYS = ("days_since_1970", "year")


def _for_both(stem: str) -> dict[Task, str]:
    return {"classification": f"{stem}Classifier", "regression": f"{stem}Regressor"}


MENU: Mapping[EstimatorName, Mapping[Task, str]] = {
    "logistic": {"classification": "sklearn.linear_model.LogisticRegression"},
    "ridge": {"regression": "sklearn.linear_model.Ridge"},
    "svc": {"classification": "sklearn.svm.SVC"},
    "random_forest": _for_both("sklearn.ensemble.RandomForest"),
    "histogram_gradient_boosting": _for_both("sklearn.ensemble.HistGradientBoosting"),
    "lightgbm": {
        "classification": "lightgbm.LGBMClassifier",
        "regression": "lightgbm.LGBMRegressor",
    },
    "mlp": _for_both("sklearn.neural_network.MLP"),
}
"""The class that a short name stands for, by the tasks that it is for."""

DEFAULTS: Mapping[EstimatorName, Mapping[str, Any]] = {
    "logistic": {"max_iter": 1000},
    # Fully grown trees over many rows would make a release of hundreds of megabytes.
    "random_forest": {"n_estimators": 100, "min_samples_leaf": 3, "max_depth": 16},
    "mlp": {"hidden_layer_sizes": (64, 32), "early_stopping": True, "max_iter": 300},
    # The same trees on every machine.
    "lightgbm": {"deterministic": True, "force_row_wise": True, "verbosity": -1},
}
"""Parameters that are set unless the configuration says otherwise."""

_TREES = {
    "histogram_gradient_boosting": {
        **{"learning_rate": 0.05, "max_iter": 500, "max_leaf_nodes": 15, "l2_regularization": 1.0},
        **{"early_stopping": True, "n_iter_no_change": 20},
    },
    "lightgbm": {"learning_rate": 0.05, "n_estimators": 200, "num_leaves": 15, "reg_lambda": 1.0},
}


def names_for(task: Task) -> list[EstimatorName]:
    """The short names that are for a task, the default first."""
    return [name for name, one in MENU.items() if task in one]


def auto_candidates(task: Task) -> list[EstimatorOptions]:
    """What ``auto`` chooses from, the simplest first."""
    boosting, lightgbm = (
        EstimatorOptions.model_validate({"name": name, "parameters": parameters})
        for name, parameters in _TREES.items()
    )
    linear = EstimatorOptions(name=names_for(task)[0])
    return [linear, boosting, *[lightgbm] * _has_lightgbm()]


def build_estimator(options: EstimatorOptions, contract: Contract, seed: int) -> "Pipeline":
    """Make the unfitted pipeline: what the contract's columns need, then the estimator.

    Regressions by a short name learn their target scaled. Without, an MLP does not learn numbers
    far from one, and the float32 that trees answer in the served form cannot hold numbers far from
    zero and close to one another. Losses that need positive numbers go with ``class_path``.
    """
    from sklearn.base import ClassifierMixin, RegressorMixin
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    task = contract.target.task
    name = options.name or names_for(task)[0]
    path = options.class_path or MENU.get(name, {}).get(task, "sklearn.")
    module, _, class_name = path.rpartition(".")
    if module == "lightgbm" and not _has_lightgbm():
        raise PrerequisiteError(
            "training.estimator.name: lightgbm needs the extra `boosting` of this project."
        )
    kind = getattr(import_module(module), class_name, None)
    mixin = ClassifierMixin if task == "classification" else RegressorMixin
    if not isinstance(kind, type) or not issubclass(kind, mixin):
        raise ConfigurationError(
            f"training.estimator: contract {contract.name} needs a model for {task}, found "
            f"{options.class_path or name}; for name choose {', '.join(names_for(task))}, "
            "for class_path any such class of scikit-learn"
        )
    defaults = {} if options.class_path else DEFAULTS.get(name, {})
    parameters = {**defaults, **options.parameters}
    estimator = kind().set_params(**parameters)
    if "random_state" in estimator.get_params() and "random_state" not in parameters:
        estimator.set_params(random_state=seed)
    if options.class_path is None and task == "regression":
        estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
    is_tree = module.startswith(("sklearn.ensemble", "sklearn.tree", "lightgbm"))
    steps = _preprocessing(contract, is_scaled=not is_tree)
    if is_tree:
        # They compare with thresholds, which the served form holds in float32. np.asarray rather
        # than a function of ours, so that the logged model loads without this package.
        rounding = FunctionTransformer(np.asarray, kw_args={"dtype": np.float32})
        steps.append((ROUND, rounding))
    return Pipeline([*steps, (ESTIMATOR, estimator)])


def inner_estimator(model: "Pipeline") -> Any:
    """The estimator of a pipeline, fitted or not, within its calibration or scaled target."""
    last = model.steps[-1][1]
    if hasattr(last, "calibrated_classifiers_"):
        return last.calibrated_classifiers_[0].estimator
    return getattr(last, "regressor_", getattr(last, "regressor", last))


def choose_estimator(
    features: pd.DataFrame, truth: npt.NDArray[Any], contract: Contract, folds: Folds, seed: int
) -> tuple[EstimatorOptions, pd.DataFrame]:
    """Choose the simplest estimator that is not shown to be worse than the best one.

    It is worse where its error in the same folds, log loss or RMSE, is larger by more than one
    standard error of the difference: the rule of Breiman et al., Classification and Regression
    Trees, 1984, 3.4.3, on paired folds. What cannot be fitted to so few rows is not chosen.

    Returns:
        The estimator; and the errors of each by fold, those of a constant answer first.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.metrics import log_loss, make_scorer
    from sklearn.model_selection import cross_val_score

    target = contract.target
    candidates = auto_candidates(target.task)
    models: dict[str, Any] = {"constant": DummyRegressor()}
    scorer: Any = "neg_root_mean_squared_error"
    if target.classes:
        models["constant"] = DummyClassifier()
        likely = {"response_method": "predict_proba", "labels": list(target.class_codes)}
        scorer = make_scorer(log_loss, greater_is_better=False, **likely)
    models |= {str(one.name): build_estimator(one, contract, seed) for one in candidates}
    errors = {}
    for name, model in models.items():
        options: dict[str, Any] = {"cv": folds, "scoring": scorer, "error_score": "raise"}
        # The linear one is chosen if none can be fitted, and its fit says why.
        try:
            errors[name] = -cross_val_score(model, features, truth, **options)
        except ValueError as error:
            _LOGGER.warning("%s is no candidate: %s", name, error)
    columns = [f"fold{number}" for number in range(len(folds))]
    table = pd.DataFrame.from_dict(errors, orient="index", columns=columns)
    able = [one for one in candidates if one.name in errors] or candidates[:1]
    found = np.array([errors.get(str(one.name), np.zeros(len(folds))) for one in able])
    beyond = found - found[found.mean(axis=1).argmin()]
    keeps_up = beyond.mean(axis=1) <= beyond.std(axis=1, ddof=1) / np.sqrt(len(folds))
    return able[int(keeps_up.argmax())], table.rename_axis("estimator")


def threads_for(row_count: int) -> threadpool_limits:
    """One thread for few rows: there, boosting spends its time on waiting for the others."""
    return threadpool_limits(1 if row_count < _MANY_ROWS else None, user_api="openmp")


def _has_lightgbm() -> bool:
    if find_spec("onnxmltools") is None or find_spec("lightgbm") is None:
        return False
    try:
        import_module("lightgbm")
    except OSError:
        # Its wheel needs the system's OpenMP library, which a bare machine lacks.
        return False
    return True


def search_parameters(
    model: "Pipeline",
    features: pd.DataFrame,
    truth: npt.NDArray[Any],
    search: SearchOptions,
    folds: Folds,
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Find the best combination of the search space by cross-validation.

    A combination that cannot be scored in every fold is never the best, and it is an error where
    none can.

    Returns:
        The best combination, and all that were tried with their scores, the best first.
    """
    from sklearn.callback import ProgressBar
    from sklearn.model_selection import RandomizedSearchCV

    prefix = f"{ESTIMATOR}__" + "regressor__" * hasattr(model.steps[-1][1], "regressor")
    space = {prefix + name: values for name, values in search.space.items()}
    searcher = RandomizedSearchCV(
        model,
        space,
        # As many trials as there are combinations are all of them, each once.
        n_iter=search.maximum_trials or math.prod(map(len, space.values())),
        scoring=search.scoring,
        cv=folds,
        random_state=seed,
        refit=False,
    )
    if sys.stdout.isatty():
        searcher.set_callbacks(ProgressBar(max_propagation_depth=0))
    with search.engine.running(), warnings.catch_warnings(), suppress(ValueError):
        # It warns of combinations that cannot be scored in several lines each; told below.
        warnings.simplefilter("ignore")
        searcher.fit(features, truth)
    if not np.isfinite(getattr(searcher, "best_score_", np.nan)):
        # What is wrong with all of them is wrong with any one, which says it best.
        searcher.set_params(n_iter=1, error_score="raise").fit(features, truth)
        raise UserError(
            f"training.search: {search.scoring} is not defined in every one of {search.folds} "
            "folds, so no combination can be chosen: choose fewer folds or another score."
        )
    results = searcher.cv_results_
    trials = pd.DataFrame(results["params"]).rename(columns=lambda name: name.removeprefix(prefix))
    for unscored in trials[np.isnan(results["mean_test_score"])].to_dict("records"):
        _LOGGER.warning("search: cannot be scored in every fold, does not count: %s", unscored)
    scores = [name for name in results if name.endswith("_test_score") or name == "mean_fit_time"]
    best = results["params"][searcher.best_index_]
    trials = trials.join(pd.DataFrame({name: results[name] for name in scores}))
    return (
        {name.removeprefix(prefix): value for name, value in best.items()},
        trials.sort_values("rank_test_score", ignore_index=True),
    )


def _preprocessing(contract: Contract, *, is_scaled: bool) -> list[tuple[str, Any]]:
    """The steps between the encoded matrix and the estimator.

    A contract of plain numbers has a scaler or nothing. Otherwise columns are treated by their
    kinds: statistics of the training rows replace what is missing, where the contract allows
    that; numbers and parts of dates are scaled; categories become one column each.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

    if is_plain(contract):
        return [("scaler", StandardScaler())] if is_scaled else []
    # Columns with the same treatment are transformed together.
    alike: dict[tuple[Any, ...], list[int]] = {}
    columns = encoded_columns(contract)
    for position, column in enumerate(columns):
        feature = contract.features[column.source]
        kind = {
            "category": column.source,
            "part": "day" if column.part in _DAYS else "number",
        }.get(column.kind, column.kind)
        alike.setdefault((kind, feature.missing, feature.constant), []).append(position)
    treatments = []
    for positions in alike.values():
        column = columns[positions[0]]
        feature = contract.features[column.source]
        steps: list[Any] = []
        if feature.missing not in ("reject", "separate"):
            imputer = SimpleImputer(strategy=feature.missing, keep_empty_features=True)
            if feature.missing == "constant":
                value: Any = feature.constant
                value = feature.category_codes[value] if column.kind == "category" else value
                imputer.set_params(fill_value=float(value))
            steps.append(imputer)
        if column.kind == "category":
            known = [sorted(code for code in possible_codes(column, feature) if code >= 0)]
            steps.append(
                OneHotEncoder(categories=known, handle_unknown="ignore", sparse_output=False)
            )
        elif column.kind != "boolean" and is_scaled:
            # A day beyond those that were seen counts as the last of them, as it does for trees:
            # a straight line says of a login two years ago whatever it likes.
            is_day = column.part in _DAYS
            steps += [MinMaxScaler(clip=True)] * is_day + [StandardScaler()]
        treatment = make_pipeline(*steps) if steps else "passthrough"
        treatments.append((f"{column.kind}_{positions[0]}", treatment, positions))
    return [("columns", ColumnTransformer(treatments, verbose_feature_names_out=False))]
