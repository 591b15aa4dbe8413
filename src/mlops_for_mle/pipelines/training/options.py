"""The parameters of training; ``conf/base/parameters.yml`` says what each of them does."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mlops_for_mle.contract import Configuration
from mlops_for_mle.pipelines.engine import Engine

EstimatorName = (
    Literal["auto", "logistic", "ridge", "svc", "random_forest"]
    | Literal["histogram_gradient_boosting", "lightgbm", "voting"]
)


class EstimatorOptions(Configuration):
    """Which estimator is trained: ``class_path``, else ``name``.

    With neither it is ``logistic`` for classification and ``ridge`` for regression. ``voting`` is
    the mean of these and gradient boosting, ``auto`` the simplest of all three that is within a
    standard error of the best by cross-validation. ``svc`` takes long on more than about 10,000
    rows; ``lightgbm`` needs the extra ``boosting``.
    """

    name: EstimatorName | None = None
    class_path: str | None = Field(default=None, pattern=r"^sklearn(\.\w+)+$")
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def is_auto(self) -> bool:
        """Whether the estimator is yet to be chosen."""
        return self.name == "auto" and self.class_path is None


class SplitOptions(Configuration):
    """How validation rows and folds are chosen.

    Attributes:
        by: ``hash`` of a row's values, so that equal rows fall on one side; ``time``: the newest
            rows are held back; ``group``: rows with the same value in a column fall on one side.
        column: The time or the group, by default the contract's ``timestamp`` or ``group``.
    """

    by: Literal["hash", "time", "group"] = "hash"
    column: str | None = None


class SearchOptions(Configuration):
    """A cross-validated search over the estimator's parameters.

    Attributes:
        space: Values to try by parameter.
        folds: Of the same kind as the split.
        maximum_trials: Try this many random combinations; null tries them all.
        scoring: A name of ``sklearn.metrics.get_scorer_names``.
        engine: What fits and scores the combinations.
    """

    space: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(min_length=1)
    folds: int = Field(default=5, ge=2, le=50)
    maximum_trials: int | None = Field(default=None, ge=1)
    scoring: str
    engine: Engine = Engine(scheduler="processes")


class TrainingOptions(Configuration):
    """How a snapshot becomes a candidate; ``seed`` fixes whatever is drawn by chance.

    Attributes:
        calibrate: Whether the probabilities of classes are made to agree with how often they are
            right; ``auto``: where that helps on held-out rows.
        threshold: From which probability on the second of two classes is answered: ``auto``
            chooses where one class is rare, null takes the more probable class.
        metric: What ``auto`` chooses the threshold by; null: that of ``gates``.
    """

    validation_fraction: float = Field(default=0.25, gt=0, lt=1)
    seed: int = Field(default=42, ge=0, le=2**32 - 1)
    split: SplitOptions = SplitOptions()
    estimator: EstimatorOptions = EstimatorOptions()
    search: SearchOptions | None = None
    calibrate: Literal["auto", False] = "auto"
    threshold: Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] | None = "auto"
    metric: str | None = None

    @model_validator(mode="after")
    def _auto_goes_alone(self) -> Self:
        if self.estimator.is_auto and (self.search is not None or self.estimator.parameters):
            raise ValueError(
                "estimator.name: auto goes with no search and no estimator.parameters: name one "
                "estimator for them"
            )
        return self


class DataCheckOptions(Configuration):
    """What stops a training; each of the limits may be null, which switches its check off."""

    minimum_rows: int | None = Field(default=30, ge=1)
    minimum_rows_per_class: int | None = Field(default=5, ge=1)
    maximum_single_feature_score: float | None = Field(default=0.999, gt=0, le=1)
