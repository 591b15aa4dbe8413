"""Which models can be trained, what stands in front of them, and the search for parameters.

scikit-learn is imported inside the functions, because every command imports this module.
"""

import hashlib
import logging
import math
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import encoded_columns, is_plain, possible_codes
from mlops_for_mle.contract.model import Task
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training.options import EstimatorName, EstimatorOptions, SearchOptions

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_LOGGER = logging.getLogger(__name__)

ESTIMATOR = "estimator"
ROUND = "round"


# Beyond this share of one class, a model that is not told otherwise hardly answers another one.
_NEARLY_ALL = 0.9


def _for_both(stem: str) -> dict[Task, str]:
    return {"classification": f"{stem}Classifier", "regression": f"{stem}Regressor"}


MENU: Mapping[EstimatorName, Mapping[Task, str]] = {
    "logistic": {"classification": "sklearn.linear_model.LogisticRegression"},
    "ridge": {"regression": "sklearn.linear_model.Ridge"},
    "svc": {"classification": "sklearn.svm.SVC"},
    "random_forest": _for_both("sklearn.ensemble.RandomForest"),
    "histogram_gradient_boosting": _for_both("sklearn.ensemble.HistGradientBoosting"),
    "mlp": _for_both("sklearn.neural_network.MLP"),
}
"""The class that a short name stands for, by the tasks that it is for."""

DEFAULTS: Mapping[EstimatorName, Mapping[str, Any]] = {
    "logistic": {"max_iter": 1000},
    # Fully grown trees over many rows would make a release of hundreds of megabytes.
    "random_forest": {"n_estimators": 100, "min_samples_leaf": 3, "max_depth": 16},
    "mlp": {"hidden_layer_sizes": (64, 32), "early_stopping": True, "max_iter": 300},
}
"""Parameters that are set unless the configuration says otherwise."""


def names_for(task: Task) -> list[EstimatorName]:
    """The short names that are for a task, the default first."""
    return [name for name, one in MENU.items() if task in one]


def propose_estimator(task: Task, largest_share: float) -> EstimatorOptions:
    """What suits a table of whose rows the most frequent class has the largest share."""
    parameters = {"class_weight": "balanced"} if largest_share > _NEARLY_ALL else {}
    return EstimatorOptions(name=names_for(task)[0], parameters=parameters)


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
    path = options.class_path or MENU[name].get(task, "sklearn.")
    module, _, class_name = path.rpartition(".")
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
    is_tree = module.startswith(("sklearn.ensemble", "sklearn.tree"))
    steps = _preprocessing(contract, is_scaled=not is_tree)
    if is_tree:
        # They compare with thresholds, which the served form holds in float32. np.asarray rather
        # than a function of ours, so that the logged model loads without this package.
        rounding = FunctionTransformer(np.asarray, kw_args={"dtype": np.float32})
        steps.append((ROUND, rounding))
    return Pipeline([*steps, (ESTIMATOR, estimator)])


def inner_estimator(model: "Pipeline") -> Any:
    """The pipeline's estimator itself, fitted or not, also where its target is scaled."""
    last = model.steps[-1][1]
    return getattr(last, "regressor_", getattr(last, "regressor", last))


def search_parameters(
    model: "Pipeline",
    features: pd.DataFrame,
    truth: npt.NDArray[Any],
    search: SearchOptions,
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Find the best combination of the search space by cross-validation.

    Equal rows stand in one fold. A combination that cannot be scored in every fold is never the
    best, and it is an error where none can.

    Returns:
        The best combination, and all that were tried with their scores, the best first.
    """
    from sklearn.base import is_classifier
    from sklearn.callback import ProgressBar
    from sklearn.model_selection import GroupKFold, RandomizedSearchCV, StratifiedGroupKFold

    prefix = f"{ESTIMATOR}__" + "regressor__" * hasattr(model.steps[-1][1], "regressor")
    space = {prefix + name: values for name, values in search.space.items()}
    kind = StratifiedGroupKFold if is_classifier(model) else GroupKFold
    searcher = RandomizedSearchCV(
        model,
        space,
        # As many trials as there are combinations are all of them, each once.
        n_iter=search.maximum_trials or math.prod(map(len, space.values())),
        scoring=search.scoring,
        cv=kind(search.folds, shuffle=True, random_state=seed),
        random_state=seed,
        refit=False,
    )
    if sys.stdout.isatty():
        searcher.set_callbacks(ProgressBar(max_propagation_depth=0))
    groups = row_hashes(features, seed)
    with search.engine.running(), warnings.catch_warnings(), suppress(ValueError):
        # It warns of combinations that cannot be scored in several lines each; told below.
        warnings.simplefilter("ignore")
        searcher.fit(features, truth, groups=groups)
    if not np.isfinite(getattr(searcher, "best_score_", np.nan)):
        # What is wrong with all of them is wrong with any one, which says it best.
        searcher.set_params(n_iter=1, error_score="raise").fit(features, truth, groups=groups)
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


def row_hashes(features: pd.DataFrame, seed: int) -> npt.NDArray[np.uint64]:
    """A number for each row, salted with the seed; equal rows have equal ones."""
    # Adding zero turns -0.0 into 0.0, which is the same value with other bytes.
    rows = np.ascontiguousarray(features.to_numpy(np.float64) + 0.0)
    key = str(seed).encode()
    hashes = (hashlib.blake2b(row.data, digest_size=8, key=key).digest() for row in rows)
    return np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64)


def _preprocessing(contract: Contract, *, is_scaled: bool) -> list[tuple[str, Any]]:
    """The steps between the encoded matrix and the estimator.

    A contract of plain numbers has a scaler or nothing. Otherwise columns are treated by their
    kinds: statistics of the training rows replace what is missing, where the contract allows
    that; numbers and parts of dates are scaled; categories become one column each.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    if is_plain(contract):
        return [("scaler", StandardScaler())] if is_scaled else []
    # Columns with the same treatment are transformed together.
    alike: dict[tuple[Any, ...], list[int]] = {}
    columns = encoded_columns(contract)
    for position, column in enumerate(columns):
        feature = contract.features[column.source]
        kind = column.source if column.kind == "category" else column.kind == "boolean"
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
            steps.append(StandardScaler())
        treatment = make_pipeline(*steps) if steps else "passthrough"
        treatments.append((f"{column.kind}_{positions[0]}", treatment, positions))
    return [("columns", ColumnTransformer(treatments, verbose_feature_names_out=False))]
