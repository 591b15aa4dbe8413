"""The parameters of retraining."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mlops_for_mle.contract import Configuration
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.monitoring_run import Area
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.records_retraining import MOST_WINDOWS, Action


class AreaActions(Configuration):
    """What repeated alarms of each area call for; calibration is never more than a warning.

    Attributes:
        performance: Labelled predictions are worse than they may be.
        drift: Features or predictions are distributed otherwise; without labels this is no proof
            that the model is worse.
        data_quality: Values are missing, of a wrong type or out of range.
    """

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
        minimum_labelled: So many labelled predictions are enough, where no class has fewer rows
            among them than ``data_checks`` asks for.
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
