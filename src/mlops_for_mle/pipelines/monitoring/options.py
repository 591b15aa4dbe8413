"""The parameters of monitoring."""

from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from mlops_for_mle.contract import Configuration

PerformanceMetric = Literal["accuracy", "rmse", "mae"]


class WindowOptions(Configuration):
    """Which predictions are looked at, all of them answered by the deployed release.

    Attributes:
        rows: The newest predictions, and the newest labelled ones; null takes all.
        hours: Only those of the last hours before ``until``; null takes all.
        until: The end of the window, for looking back; a time with its zone, such as
            ``2026-05-01T00:00:00Z``. Null is now.
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
        needed = max(self.minimum_rows, self.minimum_labelled)
        if self.rows is not None and self.rows < needed:
            raise ValueError(
                f"rows {self.rows} must not be below minimum_rows {self.minimum_rows} and "
                f"minimum_labelled {self.minimum_labelled}"
            )
        return self


class DriftOptions(Configuration):
    """When another distribution of a feature or of the predictions counts.

    The effect is the population stability index, less what sampling alone would give.

    Attributes:
        bins: Into how many bins of about equally many rows the reference's numbers are sorted.
        warning: From this index on a significant difference is a warning.
        alarm: From this index on it is an alarm.
        ignore: Features that are expected to differ, such as the date of an order; their index
            is shown and never counts.
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
        metric: ``accuracy``, ``rmse`` or ``mae``; null takes accuracy or rmse, by the task.
        limit: The least accuracy or the largest error; null sets no fixed limit.
        tolerance: By how much live predictions may be worse than the release's validation rows:
            an accuracy by this difference, an error by this fraction. Null does not compare.
    """

    metric: PerformanceMetric | None = None
    limit: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    tolerance: float | None = Field(default=0.1, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _accuracy_can_be_reached(self) -> Self:
        if self.metric == "accuracy" and self.limit is not None and self.limit > 1:
            raise ValueError(f"limit {self.limit:g} must not be above 1, the best accuracy")
        return self


class CalibrationOptions(Configuration):
    """How true the probabilities must be; a miss is a warning.

    Attributes:
        bins: Into how many equal steps of probability the answers are sorted.
        maximum_error: The largest expected calibration error.
    """

    bins: int = Field(default=10, ge=2, le=50)
    maximum_error: float = Field(default=0.1, ge=0, le=1)


class QualityOptions(Configuration):
    """What part of the values may be bad; null sets no limit.

    More bad values of a feature are an alarm. Old or few rows, repeated rows and bad values in the
    table of observations are a warning.

    Attributes:
        maximum_missing: The largest fraction of missing values, beyond what the reference has.
        maximum_wrong_type: The largest fraction of values of another type.
        maximum_out_of_range: The largest fraction outside of the contract's range.
        maximum_unknown: The largest fraction of categories that the reference does not have.
        maximum_duplicates: The largest fraction of rows that repeat another one.
        maximum_age_hours: How old the newest prediction may be.
        minimum_rows_per_hour: How many predictions an hour there must be.
    """

    maximum_missing: float | None = Field(default=0.05, ge=0, le=1)
    maximum_wrong_type: float | None = Field(default=0.0, ge=0, le=1)
    maximum_out_of_range: float | None = Field(default=0.01, ge=0, le=1)
    maximum_unknown: float | None = Field(default=0.05, ge=0, le=1)
    maximum_duplicates: float | None = Field(default=None, ge=0, le=1)
    maximum_age_hours: float | None = Field(default=None, gt=0)
    minimum_rows_per_hour: float | None = Field(default=None, gt=0)


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
