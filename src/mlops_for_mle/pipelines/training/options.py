"""The parameters of training; ``conf/base/parameters.yml`` says what each of them does."""

from typing import Annotated, Any, Literal

from pydantic import Field

from mlops_for_mle.contract import Configuration
from mlops_for_mle.pipelines.engine import Engine

EstimatorName = Literal[
    "logistic", "ridge", "svc", "random_forest", "histogram_gradient_boosting", "mlp"
]


class EstimatorOptions(Configuration):
    """Which scikit-learn estimator is trained: ``class_path``, else ``name``.

    With neither it is ``logistic`` for classification and ``ridge`` for regression. ``svc`` takes
    long on more than about 10,000 rows.
    """

    name: EstimatorName | None = None
    class_path: str | None = Field(default=None, pattern=r"^sklearn(\.\w+)+$")
    parameters: dict[str, Any] = Field(default_factory=dict)


class SearchOptions(Configuration):
    """A cross-validated search over the estimator's parameters.

    Attributes:
        space: Values to try by parameter.
        folds: Equal rows never stand in two of them.
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
    """How a snapshot becomes a candidate; ``seed`` fixes the split, the estimator, the search."""

    validation_fraction: float = Field(default=0.25, gt=0, lt=1)
    seed: int = Field(default=42, ge=0, le=2**32 - 1)
    estimator: EstimatorOptions = EstimatorOptions()
    search: SearchOptions | None = None


class DataCheckOptions(Configuration):
    """What stops a training; each of the limits may be null, which switches its check off."""

    minimum_rows: int | None = Field(default=30, ge=1)
    minimum_rows_per_class: int | None = Field(default=5, ge=1)
    maximum_single_feature_score: float | None = Field(default=0.999, gt=0, le=1)
    allowed_predictors: tuple[str, ...] = ()
    maximum_label_noise: float | None = Field(default=0.1, ge=0, lt=1)
