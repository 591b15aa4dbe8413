"""What passes between the pure nodes of monitoring and its catalog entries."""

from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.monitoring_run import MonitoringRun
from mlops_for_mle.release import Release


@dataclass(frozen=True)
class DeployedRelease:
    """The release that is served, with the rows that its model was trained and validated on."""

    release: Release
    snapshot: pd.DataFrame


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers and the bins that its values are counted in.

    Attributes:
        name: The feature's name.
        edges: Ascending; a value counts in the bin whose number is how many edges are at most as
            large, so there is one bin more than edges and the outer ones are open.
        centre: The reference's mean; values are summed up relative to it.
        scale: The reference's standard deviation, or 1 where that is 0.
        minimum: The smallest value that the contract allows.
        maximum: The largest.
        is_whole: Whether only whole numbers are allowed.
        is_time: Whether the log holds dates or times as text; they count in seconds since 1970.
    """

    name: str
    edges: tuple[float, ...]
    centre: float
    scale: float
    minimum: float | None = None
    maximum: float | None = None
    is_whole: bool = False
    is_time: bool = False


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories; those that are not listed are counted as unknown.

    Attributes:
        name: The feature's name.
        categories: Their texts.
    """

    name: str
    categories: tuple[str, ...]


MonitoredColumn = NumericColumn | CategoryColumn


@dataclass(frozen=True)
class ReferenceColumn:
    """A column and how the reference's values lie in it, one count a bin or category."""

    column: MonitoredColumn
    counts: tuple[int, ...]


@dataclass(frozen=True)
class ReferenceProfile:
    """What the window is compared with.

    Attributes:
        contract: The contract of the deployed release.
        release: The release's name.
        model_version: Its version in the registry.
        metrics: What was measured when it was trained.
        row_count: The rows of the snapshot.
        watermark: The largest key among them; None for a file.
        features: The contract's features, in its order.
        prediction: What the release answers for the snapshot's rows.
        class_codes: The classes as they stand in the prediction log; empty for regression.
        target_scale: The standard deviation of a regression's target; 1 for classification.
    """

    contract: Contract
    release: str
    model_version: int
    metrics: dict[str, float]
    row_count: int
    watermark: int | None
    features: tuple[ReferenceColumn, ...]
    prediction: ReferenceColumn
    class_codes: tuple[float, ...]
    target_scale: float


@dataclass(frozen=True)
class WindowPlan:
    """Which rows are counted, and how.

    Attributes:
        reference: The columns and their bins.
        row_limit: The newest predictions, and the newest labelled ones; None takes all.
        hours: Only those of the last hours before ``until``; None takes all.
        until: The end of the window; None is now.
        confidence_bins: How many bins the probability of the predicted class is counted in.
    """

    reference: ReferenceProfile
    row_limit: int | None
    hours: float | None
    until: datetime | None
    confidence_bins: int


@dataclass(frozen=True)
class ColumnCounts:
    """How the window's values of one column lie.

    Attributes:
        counts: One a bin or category.
        missing: Rows without a value.
        wrong_type: Values of another type than the column's.
        out_of_range: Numbers below the minimum or above the maximum of the contract.
        unknown: Categories that are not listed.
        mean: Of the numbers.
        deviation: Their standard deviation.
        least: The smallest number.
        largest: The largest.
    """

    counts: tuple[int, ...]
    missing: int = 0
    wrong_type: int = 0
    out_of_range: int = 0
    unknown: int = 0
    mean: float | None = None
    deviation: float | None = None
    least: float | None = None
    largest: float | None = None


@dataclass(frozen=True)
class ClassifiedCell:
    """Labelled predictions that were answered, labelled and rated alike.

    Attributes:
        predicted: The number of the predicted class in the contract's order; None for others.
        actual: The number of the true class; None for others.
        confidence_bin: The bin of the predicted class's probability; None without probabilities.
        count: How many.
        confidence: The sum of the predicted class's probabilities.
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


@dataclass(frozen=True)
class RegressionSums:
    """Sums over labelled predictions; errors and targets in standard deviations of the target.

    Attributes:
        count: How many.
        absolute: The sum of the absolute errors.
        square: The sum of the squared errors.
        fourth: The sum of the errors' fourth powers.
        target: The sum of the targets, less the reference's mean.
        target_square: The sum of the squares of the same.
    """

    count: int = 0
    absolute: float = 0.0
    square: float = 0.0
    fourth: float = 0.0
    target: float = 0.0
    target_square: float = 0.0


@dataclass(frozen=True)
class TableCounts:
    """The newest rows of the contract's table, as many as the window has.

    Attributes:
        table: Its name.
        row_count: How many rows were looked at.
        new_rows: How many rows of the whole table are newer than the snapshot; None for a file.
        age_seconds: How old the newest row is.
        duplicates: Rows that repeat another one's features and target.
        missing: Empty values by column.
        out_of_range: Values that the contract does not allow, by column.
    """

    table: str
    row_count: int
    new_rows: int | None
    age_seconds: float | None
    duplicates: int
    missing: dict[str, int]
    out_of_range: dict[str, int]


@dataclass(frozen=True)
class WindowCounts:
    """Everything that is known of the window: counts and sums, no rows.

    Attributes:
        row_count: The predictions of the deployed release in the window.
        window_from: When the first was answered.
        window_to: When the last was.
        age_seconds: How old the last one is.
        duplicates: Rows that repeat another one's features.
        features: By name.
        prediction: What was answered.
        classified: Labelled predictions of a classification.
        regression: Labelled predictions of a regression.
        labelled_from: When the first labelled prediction was answered.
        labelled_to: When the last was.
        table: The contract's table; None where it is missing.
    """

    row_count: int
    window_from: datetime | None
    window_to: datetime | None
    age_seconds: float | None
    duplicates: int
    features: dict[str, ColumnCounts]
    prediction: ColumnCounts
    classified: tuple[ClassifiedCell, ...] = ()
    regression: RegressionSums = field(default_factory=RegressionSums)
    labelled_from: datetime | None = None
    labelled_to: datetime | None = None
    table: TableCounts | None = None

    @property
    def labelled_count(self) -> int:
        """How many labelled predictions were looked at."""
        return sum(cell.count for cell in self.classified) + self.regression.count


@dataclass(frozen=True)
class MonitoringReport:
    """A recorded run and its report for people, one HTML document."""

    run: MonitoringRun
    html: str = field(repr=False)
