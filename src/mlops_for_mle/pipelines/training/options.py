"""The parameters of training."""

from typing import Annotated, Any, Literal

from pydantic import Field

from mlops_for_mle.contract import Configuration
from mlops_for_mle.pipelines.engine import Engine

EstimatorName = Literal[
    "logistic", "ridge", "svc", "random_forest", "histogram_gradient_boosting", "mlp"
]


class EstimatorOptions(Configuration):
    """Which scikit-learn estimator is trained.

    With neither ``name`` nor ``class_path`` it is ``logistic`` for classification and ``ridge``
    for regression.

    Attributes:
        name: A short name of the menu in ``estimators.py``. ``svc`` takes long on more than about
            10,000 rows.
        class_path: A classifier or regressor of scikit-learn, such as ``sklearn.svm.SVC``; it goes
            before a name, so that one command or environment can name it.
        parameters: Its parameters; those left out keep the defaults.
        scale: Whether numbers are scaled; None means wherever the estimator gains from it.
    """

    name: EstimatorName | None = None
    class_path: str | None = Field(default=None, pattern=r"^sklearn(\.\w+)+$")
    parameters: dict[str, Any] = Field(default_factory=dict)
    scale: bool | None = None


class SearchOptions(Configuration):
    """A cross-validated search over the estimator's parameters.

    Attributes:
        space: Values to try by parameter.
        folds: Number of cross-validation folds; equal rows never stand in two of them.
        maximum_trials: Try this many random combinations; None tries them all.
        scoring: A name of ``sklearn.metrics.get_scorer_names``.
        engine: What fits and scores the combinations.
    """

    space: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(min_length=1)
    folds: int = Field(default=5, ge=2, le=50)
    maximum_trials: int | None = Field(default=None, ge=1)
    scoring: str
    engine: Engine = Engine(scheduler="processes")


class TrainingOptions(Configuration):
    """How a snapshot becomes a candidate.

    Attributes:
        validation_fraction: The share of distinct rows that is held back for validation.
        seed: Fixes the split, the estimator and the search.
        estimator: What is trained.
        search: Searched first when it is given.
    """

    validation_fraction: float = Field(default=0.25, gt=0, lt=1)
    seed: int = Field(default=42, ge=0, le=2**32 - 1)
    estimator: EstimatorOptions = EstimatorOptions()
    search: SearchOptions | None = None


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
