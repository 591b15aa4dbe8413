"""Which models can be trained, what stands in front of them, and the search for parameters.

scikit-learn is imported inside the functions, because every command imports this module.
"""

import logging
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.encoding import EncodedColumn, encoded_columns, is_plain, possible_codes
from mlops_for_mle.contract.model import Task
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training.options import (
    EstimatorName,
    EstimatorOptions,
    SearchOptions,
)

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_LOGGER = logging.getLogger(__name__)

ESTIMATOR = "estimator"
ROUND = "round"

# Beyond this share of one class, a model that is not told otherwise hardly answers another one.
_NEARLY_ALL = 0.9
# Losses that are only defined for a target above zero.
_POSITIVE_LOSSES = {"poisson", "gamma"}


class Choice(NamedTuple):
    """What a short name stands for.

    Attributes:
        class_paths: The class for each task that the name is for.
        parameters: Set unless the configuration says otherwise.
        is_scaled: Whether numbers are scaled; trees do not need it.
        is_target_scaled: Whether a regression learns its target scaled. Without, an MLP does not
            learn numbers far from one, and the float32 that trees answer in the served form cannot
            hold numbers that are far from zero and close to one another.
    """

    class_paths: Mapping[Task, str]
    parameters: Mapping[str, Any] = MappingProxyType({})
    is_scaled: bool = True
    is_target_scaled: bool = False


def _for_both(stem: str) -> dict[Task, str]:
    return {"classification": f"{stem}Classifier", "regression": f"{stem}Regressor"}


MENU: Mapping[EstimatorName, Choice] = {
    "logistic": Choice(
        {"classification": "sklearn.linear_model.LogisticRegression"}, {"max_iter": 1000}
    ),
    "ridge": Choice({"regression": "sklearn.linear_model.Ridge"}),
    "svc": Choice({"classification": "sklearn.svm.SVC"}),
    "random_forest": Choice(
        _for_both("sklearn.ensemble.RandomForest"),
        # Fully grown trees over many rows would make a release of hundreds of megabytes.
        {"n_estimators": 100, "min_samples_leaf": 3, "max_depth": 16},
        is_scaled=False,
        is_target_scaled=True,
    ),
    "histogram_gradient_boosting": Choice(
        _for_both("sklearn.ensemble.HistGradientBoosting"), is_scaled=False, is_target_scaled=True
    ),
    "mlp": Choice(
        _for_both("sklearn.neural_network.MLP"),
        {"hidden_layer_sizes": (64, 32), "early_stopping": True, "max_iter": 300},
        is_target_scaled=True,
    ),
}


def names_for(task: Task) -> list[EstimatorName]:
    """The short names that are for a task, the default first."""
    return [name for name, one in MENU.items() if task in one.class_paths]


def propose_estimator(task: Task, largest_share: float) -> EstimatorOptions:
    """What suits a table of whose rows the most frequent class has the largest share."""
    parameters = {"class_weight": "balanced"} if largest_share > _NEARLY_ALL else {}
    return EstimatorOptions(name=names_for(task)[0], parameters=parameters)


def build_estimator(
    options: EstimatorOptions, contract: Contract, seed: int, search: SearchOptions | None = None
) -> "Pipeline":
    """Make the unfitted pipeline: what the contract's columns need, then the estimator.

    Raises:
        ConfigurationError: There is no such estimator for the task.
    """
    from sklearn.base import ClassifierMixin, RegressorMixin
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    task = contract.target.task
    if options.class_path is not None:
        choice = Choice({task: options.class_path})
    else:
        choice = MENU[options.name or names_for(task)[0]]
    module, _, name = choice.class_paths.get(task, "sklearn.").rpartition(".")
    kind = getattr(import_module(module), name, None)
    mixin = ClassifierMixin if task == "classification" else RegressorMixin
    if not isinstance(kind, type) or not issubclass(kind, mixin):
        raise ConfigurationError(
            f"training.estimator: contract {contract.name} needs a model for {task}, found "
            f"{options.class_path or options.name}; for name choose {', '.join(names_for(task))}, "
            "for class_path any such class of scikit-learn"
        )
    parameters = {**choice.parameters, **options.parameters}
    estimator = kind().set_params(**parameters)
    if "random_state" in estimator.get_params() and "random_state" not in parameters:
        estimator.set_params(random_state=seed)
    space = {} if search is None else search.space
    losses = [
        one for key in ("loss", "criterion") for one in (parameters.get(key), *space.get(key, ()))
    ]
    if choice.is_target_scaled and task == "regression" and not _POSITIVE_LOSSES & set(losses):
        estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
    is_scaled = choice.is_scaled if options.scale is None else options.scale
    steps = _preprocessing(contract, is_scaled)
    if kind.__module__.startswith(("sklearn.ensemble", "sklearn.tree")):
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
    groups: npt.NDArray[Any],
    search: SearchOptions,
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Find the best combination of the search space by cross-validation.

    Args:
        model: The unfitted pipeline.
        features: Encoded training rows.
        truth: What is to be answered for each.
        groups: Rows with an equal number stand in one fold.
        search: The space, the folds and the score, of which more is better.
        seed: Fixes folds and random combinations.

    Returns:
        The best combination, and all that were tried with their scores. One that could not be
        scored in every fold is never the best.

    Raises:
        UserError: None could be scored in every fold.
    """
    from sklearn.base import clone, is_classifier
    from sklearn.callback import ProgressBar
    from sklearn.model_selection import (
        GridSearchCV,
        GroupKFold,
        ParameterGrid,
        RandomizedSearchCV,
        StratifiedGroupKFold,
        cross_val_score,
    )

    prefix = f"{ESTIMATOR}__" + "regressor__" * hasattr(model.steps[-1][1], "regressor")
    space = {prefix + name: values for name, values in search.space.items()}
    kind = StratifiedGroupKFold if is_classifier(model) else GroupKFold
    options = {
        "cv": kind(search.folds, shuffle=True, random_state=seed),
        "scoring": search.scoring,
    }
    combinations = ParameterGrid(space)
    if search.maximum_trials is None or search.maximum_trials >= len(combinations):
        searcher = GridSearchCV(model, space, refit=False, **options)
    else:
        searcher = RandomizedSearchCV(
            model, space, n_iter=search.maximum_trials, random_state=seed, refit=False, **options
        )
    if sys.stdout.isatty():
        searcher.set_callbacks(ProgressBar(max_propagation_depth=0))
    failure = None
    with search.engine.running(), warnings.catch_warnings():
        # It warns of combinations that cannot be scored, in several lines each; told below.
        warnings.simplefilter("ignore")
        try:
            searcher.fit(features, truth, groups=groups)
        except ValueError as error:
            failure, is_scored = error, np.zeros(1, dtype=bool)
        else:
            is_scored = np.isfinite(searcher.cv_results_["mean_test_score"])
    if not is_scored.any():
        # What is wrong with all of them is wrong with the first, which says it best.
        first = clone(model).set_params(**combinations[0]).fit(features, truth)
        cross_val_score(first, features, truth, groups=groups, error_score="raise", **options)
        raise UserError(
            f"training.search: {search.scoring} is not defined in every one of {search.folds} "
            "folds, so no combination can be chosen: choose fewer folds or another score."
        ) from failure
    results = searcher.cv_results_
    trials = pd.DataFrame(results["params"]).rename(columns=lambda name: name.removeprefix(prefix))
    if not is_scored.all():
        _LOGGER.warning(
            "search: %d of %d combinations cannot be scored in every fold and do not count, such "
            "as %s",
            (~is_scored).sum(),
            len(trials),
            trials[~is_scored].iloc[0].to_dict(),
        )
    scores = [name for name in results if name.endswith("_test_score") or name == "mean_fit_time"]
    best = results["params"][searcher.best_index_]
    return (
        {name.removeprefix(prefix): value for name, value in best.items()},
        trials.join(pd.DataFrame({name: results[name] for name in scores})),
    )


def _preprocessing(contract: Contract, is_scaled: bool) -> list[tuple[str, Any]]:
    """The steps between the encoded matrix and the estimator.

    A contract of plain numbers has a scaler or nothing. Otherwise columns are treated by their
    kinds: statistics of the training rows replace what is missing, where the contract allows
    that; numbers and parts of dates are scaled; categories become one column each.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import StandardScaler

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
        treatment = _treatment(column, contract.features[column.source], is_scaled)
        treatments.append((f"{column.kind}_{positions[0]}", treatment, positions))
    return [("columns", ColumnTransformer(treatments, verbose_feature_names_out=False))]


def _treatment(column: EncodedColumn, feature: Feature, is_scaled: bool) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    steps: list[Any] = []
    if feature.missing == "constant":
        value: Any = feature.constant
        value = feature.category_codes[value] if column.kind == "category" else value
        steps.append(
            SimpleImputer(strategy="constant", fill_value=float(value), keep_empty_features=True)
        )
    elif feature.missing not in ("reject", "separate"):
        steps.append(SimpleImputer(strategy=feature.missing, keep_empty_features=True))
    if column.kind == "category":
        known = sorted(code for code in possible_codes(column, feature) if code >= 0)
        steps.append(
            OneHotEncoder(categories=[known], handle_unknown="ignore", sparse_output=False)
        )
    elif column.kind != "boolean" and is_scaled:
        steps.append(StandardScaler())
    return make_pipeline(*steps) if steps else "passthrough"
