"""Builds, searches and fits scikit-learn estimators by configuration."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import (
    GroupKFold,
    ParameterGrid,
    ParameterSampler,
    StratifiedGroupKFold,
    cross_val_score,
)
from sklearn.pipeline import Pipeline as SklearnPipeline

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.frame_encoding import encode_frame
from mlops_for_mle.frames import row_groups
from mlops_for_mle.pipelines.training.menu import DEFAULTS, MENU, names_for
from mlops_for_mle.pipelines.training.options import EstimatorOptions, SearchOptions
from mlops_for_mle.pipelines.training.preprocessing import preprocessing_steps, rounding_step
from mlops_for_mle.target import encode_target

Progress = Callable[[Iterable[dict[str, Any]], int], Iterable[dict[str, Any]]]

STEP = "estimator"

# Their thresholds are float64, which ONNX cannot hold for them; forests round by themselves.
_COMPARES_IN_FLOAT64 = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)


class Chosen(NamedTuple):
    """What a configuration comes to for a contract."""

    class_path: str
    parameters: dict[str, Any]
    is_scaled: bool


def choose(options: EstimatorOptions, contract: Contract, key: str) -> Chosen:
    """Look up short names and fill in the defaults of the contract's task.

    Raises:
        ConfigurationError: The short name is not for the task.
    """
    task = contract.target.task
    if options.class_path is not None:
        return Chosen(options.class_path, dict(options.parameters), options.scale is not False)
    name = options.name or DEFAULTS[task]
    entry = MENU[name]
    if task not in entry.class_paths:
        raise ConfigurationError(
            f"{key}.name: contract {contract.name} needs a model for {task}; allowed: "
            f"{', '.join(names_for(task))}, or a class_path (found {name!r})"
        )
    is_scaled = entry.is_scaled if options.scale is None else options.scale
    return Chosen(entry.class_paths[task], {**entry.parameters, **options.parameters}, is_scaled)


def build_estimator(
    options: EstimatorOptions, contract: Contract, seed: int, key: str = "training.estimator"
) -> SklearnPipeline:
    """Make the unfitted pipeline: what the contract's columns need, then the estimator.

    Raises:
        ConfigurationError: There is no such class, it is of the wrong kind for the task, or it
            does not take the parameters.
    """
    chosen = choose(options, contract, key)
    kind = _find_class(chosen.class_path, key)
    try:
        estimator = kind(**chosen.parameters)
    except TypeError:
        allowed = ", ".join(sorted(kind._get_param_names()))
        unknown = sorted(set(chosen.parameters) - set(kind._get_param_names()))
        raise ConfigurationError(
            f"{key}.parameters: {chosen.class_path} has no parameter "
            f"{', '.join(unknown) or 'of this form'}; allowed: {allowed}"
        ) from None
    fits = is_classifier if contract.target.task == "classification" else is_regressor
    if not fits(estimator):
        raise ConfigurationError(
            f"{key}.class_path: contract {contract.name} needs a model for "
            f"{contract.target.task} (found {chosen.class_path})"
        )
    if "random_state" in estimator.get_params() and "random_state" not in chosen.parameters:
        estimator.set_params(random_state=seed)
    before = preprocessing_steps(contract, scale=chosen.is_scaled)
    if isinstance(estimator, _COMPARES_IN_FLOAT64):
        before.append(rounding_step())
    return SklearnPipeline([*before, (STEP, estimator)])


def search_parameters(
    model: SklearnPipeline,
    rows: pd.DataFrame,
    contract: Contract,
    search: SearchOptions,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Find the best combination of the search space by cross-validation on training rows.

    Args:
        model: The unfitted pipeline.
        rows: Training rows.
        contract: Names the features and the target.
        search: The space, the folds and the score, of which more is better.
        seed: Fixes folds and random combinations.
        progress: Wraps the iteration over combinations, so that a person can see it.

    Raises:
        ConfigurationError: A parameter, value or score does not exist.
    """
    features = model_input(rows, contract)
    target = encode_target(rows[contract.target.column], contract.target)
    kind = StratifiedGroupKFold if contract.target.task == "classification" else GroupKFold
    folds = kind(n_splits=search.folds, shuffle=True, random_state=seed)
    trials = list(
        ParameterGrid(search.space)
        if search.maximum_trials is None
        else ParameterSampler(search.space, search.maximum_trials, random_state=seed)
    )
    scores = []
    for trial in progress(trials, len(trials)):
        try:
            candidate = clone(model).set_params(**{f"{STEP}__{k}": v for k, v in trial.items()})
            values = cross_val_score(
                candidate,
                features,
                target,
                groups=row_groups(features).to_numpy(),
                cv=folds,
                scoring=search.scoring,
                error_score="raise",
            )
        except ValueError as error:
            raise ConfigurationError(f"training.search: {trial}: {error}") from None
        scores.append(float(np.mean(values)))
    best: dict[str, Any] = trials[int(np.argmax(scores))]
    return best


def fit(model: SklearnPipeline, rows: pd.DataFrame, contract: Contract) -> SklearnPipeline:
    """Fit the pipeline on training rows.

    Raises:
        ConfigurationError: The estimator refuses a parameter's value.
    """
    from sklearn.utils._param_validation import InvalidParameterError

    try:
        target = encode_target(rows[contract.target.column], contract.target)
        return model.fit(model_input(rows, contract), target)
    except InvalidParameterError as error:
        raise ConfigurationError(f"training.estimator.parameters: {error}") from None


def model_input(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """The features as the model takes them: the contract's encoding, as float64."""
    return encode_frame(rows, contract)


def _find_class(class_path: str, key: str) -> Any:
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        kind = None
    if not isinstance(kind, type) or not hasattr(kind, "_get_param_names"):
        raise ConfigurationError(
            f"{key}.class_path: expected a classifier or regressor of scikit-learn, "
            f"such as sklearn.svm.SVC (found {class_path!r})"
        )
    return kind
