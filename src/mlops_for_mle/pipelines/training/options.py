"""The parameters of training."""

from typing import Any

from pydantic import Field

from mlops_for_mle.configuration import Configuration


class EstimatorOptions(Configuration):
    """Which scikit-learn estimator is trained.

    Attributes:
        class_path: A classifier or regressor of scikit-learn, such as ``sklearn.svm.SVC``.
        parameters: Its parameters; those left out keep scikit-learn's defaults.
        scale: Whether a StandardScaler stands in front of it.
    """

    class_path: str = Field(pattern=r"^sklearn(\.\w+)+$")
    parameters: dict[str, Any] = Field(default_factory=dict)
    scale: bool = True


class SearchOptions(Configuration):
    """A cross-validated search over the estimator's parameters.

    Attributes:
        space: Values to try by parameter.
        folds: Number of cross-validation folds; equal rows never stand in two of them.
        maximum_trials: Try this many random combinations; None tries them all.
        scoring: A name of ``sklearn.metrics.get_scorer_names``.
    """

    space: dict[str, list[Any]] = Field(min_length=1)
    folds: int = Field(default=5, ge=2, le=50)
    maximum_trials: int | None = Field(default=None, ge=1)
    scoring: str


class TrainingOptions(Configuration):
    """How a snapshot becomes a candidate.

    Attributes:
        validation_fraction: The share of distinct rows that is held back for validation.
        seed: Fixes the split, the estimator and the search.
        estimator: What is trained.
        search: Searched first when it is given.
    """

    validation_fraction: float = Field(default=0.25, gt=0, lt=1)
    seed: int = Field(default=2022, ge=0)
    estimator: EstimatorOptions
    search: SearchOptions | None = None
