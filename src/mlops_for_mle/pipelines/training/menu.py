"""Estimators by short names, with parameters that suit most tables; all have an ONNX form."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from mlops_for_mle.contract.model import Task

EstimatorName = Literal[
    "logistic", "ridge", "svc", "random_forest", "histogram_gradient_boosting", "mlp"
]


class MenuEntry(NamedTuple):
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
    parameters: Mapping[str, Any]
    is_scaled: bool
    is_target_scaled: bool = False


MENU: Mapping[EstimatorName, MenuEntry] = {
    "logistic": MenuEntry(
        {"classification": "sklearn.linear_model.LogisticRegression"},
        {"max_iter": 1000},
        is_scaled=True,
    ),
    "ridge": MenuEntry({"regression": "sklearn.linear_model.Ridge"}, {}, is_scaled=True),
    "svc": MenuEntry({"classification": "sklearn.svm.SVC"}, {}, is_scaled=True),
    "random_forest": MenuEntry(
        {
            "classification": "sklearn.ensemble.RandomForestClassifier",
            "regression": "sklearn.ensemble.RandomForestRegressor",
        },
        # Fully grown trees over many rows would make a release of hundreds of megabytes.
        {"n_estimators": 100, "min_samples_leaf": 3, "max_depth": 16},
        is_scaled=False,
        is_target_scaled=True,
    ),
    "histogram_gradient_boosting": MenuEntry(
        {
            "classification": "sklearn.ensemble.HistGradientBoostingClassifier",
            "regression": "sklearn.ensemble.HistGradientBoostingRegressor",
        },
        {},
        is_scaled=False,
        is_target_scaled=True,
    ),
    "mlp": MenuEntry(
        {
            "classification": "sklearn.neural_network.MLPClassifier",
            "regression": "sklearn.neural_network.MLPRegressor",
        },
        {"hidden_layer_sizes": (64, 32), "early_stopping": True, "max_iter": 300},
        is_scaled=True,
        is_target_scaled=True,
    ),
}

DEFAULTS: Mapping[Task, EstimatorName] = {"classification": "logistic", "regression": "ridge"}


def names_for(task: Task) -> list[EstimatorName]:
    """The short names that are for a task."""
    return [name for name, entry in MENU.items() if task in entry.class_paths]
