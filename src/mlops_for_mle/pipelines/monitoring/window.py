"""What is known of a window of predictions: counts and sums, no rows."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.monitoring.options import (
    MonitoringOptions,
    RetrainingOptions,
    WindowOptions,
    require_decidable,
)
from mlops_for_mle.pipelines.monitoring.reference import Reference

CONFIDENCE_BINS = 10


@dataclass(frozen=True)
class ColumnCounts:
    """How the window's values of one column lie.

    Attributes:
        bins: One count a bin, see ``Column.edges``; the first of categories are unknown ones.
        missing: Rows without a value.
        wrong_type: Values of another type than the column's.
        out_of_range: Numbers that the contract does not allow.
        mean: Of the numbers; None without any.
    """

    bins: tuple[int, ...]
    missing: int = 0
    wrong_type: int = 0
    out_of_range: int = 0
    mean: float | None = None


@dataclass(frozen=True)
class Cell:
    """Labelled predictions of a classification that were answered, labelled and rated alike.

    Attributes:
        predicted: The place of the predicted class in the contract's order; None for others.
        actual: The place of the true class; None for others.
        confidence_bin: The tenth in which the predicted class's probability lies; None without.
        count: How many.
        confidence: The sum of these probabilities.
        brier: The sum of the Brier scores over all classes.
        calibration_sum: The sum of Spiegelhalter's statistic, (y - p)(1 - 2p), where y says
            whether the prediction was right and p is its probability.
        calibration_variance: The sum of its variance, (1 - 2p)^2 p (1 - p).
    """

    predicted: int | None
    actual: int | None
    confidence_bin: int | None
    count: int
    confidence: float = 0.0
    brier: float = 0.0
    calibration_sum: float = 0.0
    calibration_variance: float = 0.0

    @property
    def right(self) -> int:
        """How many were answered with their true class."""
        return self.count if self.predicted is not None and self.predicted == self.actual else 0


@dataclass(frozen=True)
class ErrorSums:
    """Sums over labelled predictions of a regression, in standard deviations of the target.

    They are sums of powers of the error, and of the target less the reference's mean answer.
    """

    count: int = 0
    absolute: float = 0.0
    square: float = 0.0
    fourth: float = 0.0
    target: float = 0.0
    target_square: float = 0.0


@dataclass(frozen=True)
class Window:
    """A window of the deployed release's predictions, and the newest labelled ones.

    Attributes:
        age_seconds: How old the newest prediction is.
        duplicates: Rows that repeat another one's features.
        ahead: Predictions that claim to have been answered in the future; they are in no window.
        features: By name.
    """

    row_count: int
    window_from: datetime | None
    window_to: datetime | None
    age_seconds: float | None
    duplicates: int
    features: dict[str, ColumnCounts]
    prediction: ColumnCounts
    ahead: int = 0
    cells: tuple[Cell, ...] = ()
    errors: ErrorSums = field(default_factory=ErrorSums)
    labelled_from: datetime | None = None
    labelled_to: datetime | None = None

    @property
    def labelled_count(self) -> int:
        """How many labelled predictions were looked at."""
        return sum(cell.count for cell in self.cells) + self.errors.count


class PredictionLog(Protocol):
    """The predictions, which are counted where they lie."""

    def count(self, reference: Reference, window: WindowOptions) -> Window:
        """Count the newest of the reference's release into the reference's bins."""

    def labelled_rows(self, contract: Contract, since: datetime | None, most: int) -> pd.DataFrame:
        """The newest whose true label is known, as rows of the contract's table."""


def count_window(
    reference: Reference,
    prediction_log: PredictionLog,
    monitoring: MonitoringOptions,
    retraining: RetrainingOptions,
) -> Window:
    """Have the predictions of the deployed release counted, and no others.

    What an earlier version did is not laid to the new one's charge.

    Raises:
        ConfigurationError: Of such windows there would never be as many as a retraining needs.
    """
    require_decidable(monitoring, retraining)
    return prediction_log.count(reference, monitoring.window)
