"""Builds, searches and fits scikit-learn estimators by configuration."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import (
    GroupKFold,
    ParameterGrid,
    ParameterSampler,
    StratifiedGroupKFold,
    cross_val_score,
)
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, UserError
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
# What scikit-learn raises for values that do not go together.
_REFUSALS = (AttributeError, NotImplementedError, OverflowError, TypeError, ValueError)


class Chosen(NamedTuple):
    """What a configuration comes to for a contract."""

    class_path: str
    parameters: dict[str, Any]
    is_scaled: bool
    is_target_scaled: bool = False


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
    return Chosen(
        entry.class_paths[task],
        {**entry.parameters, **options.parameters},
        is_scaled,
        is_target_scaled=entry.is_target_scaled and task == "regression",
    )


def build_estimator(
    options: EstimatorOptions,
    contract: Contract,
    seed: int,
    key: str = "training.estimator",
    search: SearchOptions | None = None,
) -> SklearnPipeline:
    """Make the unfitted pipeline: what the contract's columns need, then the estimator.

    Args:
        options: Which estimator.
        contract: Names the columns and the task.
        seed: For estimators that take one, unless one is configured.
        key: Where the options stand in the configuration.
        search: Other parameters that will be tried.

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
    with understood(chosen.class_path, contract, key):
        is_for_the_task = fits(estimator)
    if not is_for_the_task:
        raise ConfigurationError(
            f"{key}.class_path: contract {contract.name} needs a model for "
            f"{contract.target.task} (found {chosen.class_path})"
        )
    if "random_state" in estimator.get_params() and "random_state" not in chosen.parameters:
        estimator.set_params(random_state=seed)
    before = preprocessing_steps(contract, scale=chosen.is_scaled)
    if isinstance(estimator, _COMPARES_IN_FLOAT64):
        before.append(rounding_step())
    if chosen.is_target_scaled and not _needs_positive_target(chosen.parameters, search):
        estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
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
        UserError: There are too few rows for the folds.
    """
    _check_scoring(search.scoring)
    features = model_input(rows, contract)
    target = encode_target(rows[contract.target.column], contract.target)
    groups = row_groups(features).to_numpy()
    _check_folds(search.folds, groups, target, contract)
    kind = StratifiedGroupKFold if contract.target.task == "classification" else GroupKFold
    folds = kind(n_splits=search.folds, shuffle=True, random_state=seed)
    trials = list(ParameterGrid(search.space))
    if search.maximum_trials is not None and search.maximum_trials < len(trials):
        trials = list(ParameterSampler(search.space, search.maximum_trials, random_state=seed))
    scores = []
    for trial in progress(trials, len(trials)):
        try:
            candidate = clone(model)
            set_parameters(candidate, trial)
            values = cross_val_score(
                candidate,
                features,
                target,
                groups=groups,
                cv=folds,
                scoring=search.scoring,
                error_score="raise",
            )
        except _REFUSALS as error:
            raise ConfigurationError(f"training.search: {trial}: {_sentence(error)}") from error
        scores.append(float(np.mean(values)))
    best: dict[str, Any] = trials[int(np.argmax(scores))]
    return best


def inner_estimator(model: SklearnPipeline) -> Any:
    """The pipeline's estimator itself, fitted or not, also where its target is scaled."""
    last = model.steps[-1][1]
    if isinstance(last, TransformedTargetRegressor):
        return getattr(last, "regressor_", last.regressor)
    return last


def set_parameters(model: SklearnPipeline, values: Mapping[str, Any]) -> None:
    """Set parameters of the pipeline's estimator.

    Raises:
        ValueError: It has no such parameter.
    """
    inner_estimator(model).set_params(**values)


def fit(model: SklearnPipeline, rows: pd.DataFrame, contract: Contract) -> SklearnPipeline:
    """Fit the pipeline on training rows.

    Raises:
        ConfigurationError: The estimator refuses a parameter's value, or these rows.
    """
    features = model_input(rows, contract)
    target = encode_target(rows[contract.target.column], contract.target)
    with understood(type(inner_estimator(model)).__name__, contract):
        fitted = model.fit(features, target)
        # Some see only now that a parameter does not go with the rows.
        fitted.predict(features.head(1))
    return fitted


@contextmanager
def understood(name: str, contract: Contract, key: str = "training.estimator") -> Iterator[None]:
    """Turn what an estimator of scikit-learn complains of into one sentence that names the key.

    Args:
        name: The estimator.
        contract: Says which estimators suit it.
        key: Where the estimator is configured.

    Raises:
        ConfigurationError: It complains.
    """
    try:
        yield
    except InvalidParameterError as error:
        raise ConfigurationError(f"{key}.parameters: {_sentence(error)}") from error
    except _REFUSALS as error:
        raise ConfigurationError(
            f"{key}: {name} does not work with these rows and parameters: {_sentence(error)} "
            f"Change {key}.parameters, or choose for {key}.name one of "
            f"{', '.join(names_for(contract.target.task))}."
        ) from error


def model_input(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """The features as the model takes them: the contract's encoding, as float64."""
    return encode_frame(rows, contract)


def _needs_positive_target(parameters: Mapping[str, Any], search: SearchOptions | None) -> bool:
    space = search.space if search is not None else {}
    wanted = [
        one for key in ("loss", "criterion") for one in (parameters.get(key), *space.get(key, ()))
    ]
    return "poisson" in wanted or "gamma" in wanted


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


def _check_scoring(scoring: str) -> None:
    if scoring not in get_scorer_names():
        raise ConfigurationError(
            "training.search.scoring: expected a name of sklearn.metrics.get_scorer_names, such as "
            f"balanced_accuracy or neg_root_mean_squared_error (found {scoring!r})"
        )


def _check_folds(folds: int, groups: np.ndarray, target: np.ndarray, contract: Contract) -> None:
    """Rows with equal features stand in one fold, so only distinct ones count."""
    count, what = len(np.unique(groups)), "distinct training rows"
    if contract.target.task == "classification":
        most = int(np.unique(target, return_counts=True)[1].max())
        if most < count:
            count, what = most, "training rows of the most frequent class"
    if count < folds:
        raise UserError(
            f"training.search.folds: {folds} folds need as many {what}, there are {count}: ingest "
            "more rows, or search with fewer folds."
        )


def _sentence(error: Exception) -> str:
    """The first line of what scikit-learn says, as a sentence."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__).strip()
    return first if first.endswith(".") else f"{first}."
