"""The parameters ``monitoring`` and ``retraining``."""

from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from mlops_for_mle.contract import Configuration
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.record import Action, Area

MOST_WINDOWS = 100
Fraction = float | None


class WindowOptions(Configuration):
    """Which predictions are looked at, all of them answered by the deployed release.

    Attributes:
        rows: The newest predictions, and the newest labelled ones; None takes all.
        hours: Only those of the last hours before ``until``; None takes all.
        until: The end of the window, for looking back; None is now.
        minimum_rows: With fewer predictions nothing is said about them.
        minimum_labelled: With fewer labelled predictions nothing is said about performance.
    """

    rows: int | None = Field(default=500, ge=1, le=1_000_000_000)
    hours: float | None = Field(default=None, gt=0, le=876_000, allow_inf_nan=False)
    until: AwareDatetime | None = None
    minimum_rows: int = Field(default=100, ge=20)
    minimum_labelled: int = Field(default=50, ge=10)

    @model_validator(mode="after")
    def _window_can_be_full(self) -> Self:
        if self.rows is not None and self.rows < max(self.minimum_rows, self.minimum_labelled):
            raise ValueError(
                f"rows {self.rows} must not be below minimum_rows {self.minimum_rows} and "
                f"minimum_labelled {self.minimum_labelled}"
            )
        return self


class DriftOptions(Configuration):
    """When another distribution of a feature or of the predictions counts.

    Attributes:
        bins: Into how many bins of about equally many rows the reference's numbers are sorted.
        warning: From this population stability index on, a significant difference is a warning.
        alarm: From this index on it is an alarm.
        ignore: Features that are expected to differ; their index is shown and never counts.
    """

    bins: int = Field(default=10, ge=2, le=100)
    warning: float = Field(default=0.1, ge=0)
    alarm: float = Field(default=0.25, gt=0)
    ignore: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _levels_are_ordered(self) -> Self:
        if self.warning > self.alarm:
            raise ValueError(f"warning {self.warning:g} must not be above alarm {self.alarm:g}")
        return self


class PerformanceOptions(Configuration):
    """How good the answers must be, measured on labelled predictions.

    Attributes:
        metric: None takes accuracy or rmse, by the task.
        limit: The least accuracy or the largest error; None sets no fixed limit.
        tolerance: By how much live predictions may be worse than the release's validation rows:
            an accuracy by this difference, an error by this fraction. None does not compare.
    """

    metric: Literal["accuracy", "rmse", "mae"] | None = None
    limit: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    tolerance: float | None = Field(default=0.1, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _accuracy_can_be_reached(self) -> Self:
        if self.metric == "accuracy" and self.limit is not None and self.limit > 1:
            raise ValueError(f"limit {self.limit:g} must not be above 1, the best accuracy")
        return self


class CalibrationOptions(Configuration):
    """How true the probabilities must be; a larger expected calibration error is a warning."""

    maximum_error: float = Field(default=0.1, ge=0, le=1)


class QualityOptions(Configuration):
    """What part of the values may be bad; None sets no limit.

    More bad values of a feature are an alarm, the others a warning.

    Attributes:
        maximum_missing: The largest fraction of missing values, beyond what the reference has.
        maximum_wrong_type: The largest fraction of values of another type.
        maximum_out_of_range: The largest fraction outside of the contract's range, and of rows of
            the contract's table that do not fit it.
        maximum_unknown: The largest fraction of categories that the reference does not have.
        maximum_duplicates: The largest fraction of rows that repeat another one.
        maximum_age_hours: How old the newest prediction may be.
    """

    maximum_missing: Fraction = Field(default=0.05, ge=0, le=1)
    maximum_wrong_type: Fraction = Field(default=0.0, ge=0, le=1)
    maximum_out_of_range: Fraction = Field(default=0.01, ge=0, le=1)
    maximum_unknown: Fraction = Field(default=0.05, ge=0, le=1)
    maximum_duplicates: Fraction = Field(default=None, ge=0, le=1)
    maximum_age_hours: float | None = Field(default=None, gt=0)


class MonitoringOptions(Configuration):
    """How the deployed release is looked at.

    Attributes:
        window: Which predictions.
        significance: The chance of any false alarm in a run, over all of its tests.
        confidence: Of the intervals that are shown.
        drift: When another distribution counts.
        performance: How good the answers must be.
        calibration: How true the probabilities must be.
        quality: What part of the values may be bad.
    """

    window: WindowOptions = WindowOptions()
    significance: float = Field(default=0.01, gt=0, lt=0.5)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    drift: DriftOptions = DriftOptions()
    performance: PerformanceOptions = PerformanceOptions()
    calibration: CalibrationOptions = CalibrationOptions()
    quality: QualityOptions = QualityOptions()


class AreaActions(Configuration):
    """What repeated alarms of each area call for; calibration is never more than a warning."""

    performance: Action = "retrain"
    drift: Action = "investigate"
    data_quality: Action = "investigate"

    def by_area(self) -> dict[Area, Action]:
        """What each area calls for."""
        return {
            "data_quality": self.data_quality,
            "drift": self.drift,
            "performance": self.performance,
        }


class TrainingRowsOptions(Configuration):
    """What a retraining learns from.

    Attributes:
        include: ``labelled`` takes the predictions that were answered since the first alarm and
            whose true label is known; ``all`` takes the table of observations too. With too few
            labels it is always both.
        minimum_labelled: So many labelled predictions are enough.
        maximum_labelled: The newest so many are taken.
    """

    include: Literal["labelled", "all"] = "labelled"
    minimum_labelled: int = Field(default=200, ge=20)
    maximum_labelled: int = Field(default=50_000, ge=20)

    @model_validator(mode="after")
    def _enough_can_be_taken(self) -> Self:
        if self.maximum_labelled < self.minimum_labelled:
            raise ValueError(
                f"maximum_labelled {self.maximum_labelled} must not be below minimum_labelled "
                f"{self.minimum_labelled}"
            )
        return self


class RetrainingOptions(Configuration):
    """When a release is trained anew, and on what.

    Attributes:
        windows: How many of the newest windows are looked at; windows that overlap count once.
        alarms: In how many of them an area must be an alarm before anything is done.
        actions: What each area calls for.
        rows: What a retraining learns from.
    """

    windows: int = Field(default=3, ge=1, le=MOST_WINDOWS)
    alarms: int = Field(default=2, ge=1)
    actions: AreaActions = AreaActions()
    rows: TrainingRowsOptions = TrainingRowsOptions()

    @model_validator(mode="after")
    def _alarms_can_be_reached(self) -> Self:
        if self.alarms > self.windows:
            raise ValueError(f"alarms {self.alarms} must not be above windows {self.windows}")
        return self


def require_decidable(monitoring: MonitoringOptions, retraining: RetrainingOptions) -> None:
    """Check that there can be as many windows as a decision needs.

    Raises:
        ConfigurationError: Each window would hold all predictions, so that all of them overlap.
    """
    window = monitoring.window
    if window.rows is None and window.hours is None and retraining.alarms > 1:
        raise ConfigurationError(
            "monitoring.window: rows and hours are both null, so every window holds all "
            "predictions, and windows that overlap count once: retraining.alarms (found "
            f"{retraining.alarms}) can never be reached; set rows or hours, or retraining.alarms: 1"
        )
