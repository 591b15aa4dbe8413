"""The parameters ``monitoring`` and ``retraining``; ``conf/base/parameters.yml`` explains each."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from mlops_for_mle.contract import Configuration

MAX_WINDOWS = 100

# The least urgent first.
Action = Literal["none", "investigate", "retrain"]
Share = Annotated[float, Field(ge=0, le=1)]


class WindowOptions(Configuration):
    """Which predictions are looked at, all of them answered by the deployed release."""

    rows: int = Field(default=500, ge=1, le=1_000_000_000)
    until: AwareDatetime | None = None
    minimum_rows: int = Field(default=100, ge=20)
    minimum_labelled: int = Field(default=50, ge=10)


class DriftOptions(Configuration):
    """The population stability index from which a significant difference counts."""

    warning: float = Field(default=0.1, ge=0)
    alarm: float = Field(default=0.25, gt=0)
    ignore: tuple[str, ...] = ()


class SegmentOptions(Configuration):
    """A category whose values are looked at one by one, or a date or time by a part of it."""

    feature: str
    by: Literal["year", "quarter", "month", "weekday", "hour"] | None = None


def _from_name(value: object) -> object:
    return {"feature": value} if isinstance(value, str) else value


class QualityOptions(Configuration):
    """Which share of a feature's values may be missing, or categories unknown to training."""

    maximum_missing: Share = 0.05
    maximum_unknown: Share = 0.05


class MonitoringOptions(Configuration):
    """How the deployed release is looked at.

    ``tolerance`` is by how much answers may be worse than on the release's validation rows,
    measured by labels or estimated: an accuracy by this difference, an error by this fraction.
    """

    window: WindowOptions = WindowOptions()
    drift: DriftOptions = DriftOptions()
    tolerance: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    quality: QualityOptions = QualityOptions()
    segments: tuple[Annotated[SegmentOptions, BeforeValidator(_from_name)], ...] = ()


class AreaActions(Configuration):
    """What repeated alarms of each area call for; an estimate alone calls for nothing."""

    data_quality: Action = "investigate"
    drift: Action = "investigate"
    performance: Action = "retrain"


class RetrainingOptions(Configuration):
    """In how many of the newest windows an area must be an alarm before anything is done."""

    windows: int = Field(default=3, ge=1, le=MAX_WINDOWS)
    alarms: int = Field(default=2, ge=1)
    actions: AreaActions = AreaActions()
    minimum_labelled: int = Field(default=200, ge=20)

    @model_validator(mode="after")
    def _alarms_can_be_reached(self) -> Self:
        if self.alarms > self.windows:
            raise ValueError(f"alarms {self.alarms} must not be above windows {self.windows}")
        return self
