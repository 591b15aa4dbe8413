"""Whether the probabilities are true: of answers that are 80 % sure, 80 % should be right."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from mlops_for_mle.pipelines.monitoring.checks import Check, Findings, wilson
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.profile import PREDICTION, free_subject
from mlops_for_mle.records_monitoring import ClassifiedCell, ReferenceProfile, WindowCounts

ERROR = "expected_calibration_error"


@dataclass(frozen=True)
class ReliabilityBin:
    """The answers whose probability lies in one step.

    Attributes:
        low: The lower end of the step.
        high: Its upper end.
        count: How many answers.
        confidence: Their mean probability.
        accuracy: How many of them were right, as a fraction.
        lower: The lower end of that fraction's interval.
        upper: Its upper end.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float
    lower: float
    upper: float


def check_calibration(
    reference: ReferenceProfile, window: WindowCounts, options: MonitoringOptions
) -> Findings:
    """Compare probabilities with how often the answers were right; nothing without any."""
    rated = [cell for cell in window.classified if cell.confidence_bin is not None]
    total = sum(cell.count for cell in rated)
    if not total or total < options.window.minimum_labelled:
        return Findings()
    table = reliability(rated, options.calibration.bins, options.confidence)
    error = sum(one.count * abs(one.accuracy - one.confidence) for one in table) / total
    limit = options.calibration.maximum_error
    confidence = sum(cell.confidence for cell in rated) / total
    right = sum(cell.count for cell in rated if _is_right(cell)) / total
    tendency = "too sure" if confidence > right else "not sure enough"
    subject = free_subject(PREDICTION, reference.contract)
    checks = [
        Check(
            "calibration",
            subject,
            ERROR,
            error,
            threshold=limit,
            severity="warning" if error > limit else "none",
            p_value=_p_value(rated),
            message=f"the probabilities are {tendency}: expected calibration error {error:.3f} "
            f"(at most {limit:g}), {confidence:.3f} sure and {right:.3f} right on average",
        ),
        Check(
            "calibration",
            subject,
            "brier_score",
            sum(cell.brier for cell in rated) / total,
        ),
        Check("calibration", subject, "mean_confidence", confidence),
    ]
    checks += [
        Check(
            "calibration",
            f"confidence {one.low:.3g} to {one.high:.3g}",
            "accuracy",
            one.accuracy,
            one.lower,
            one.upper,
            one.confidence,
        )
        for one in table
    ]
    return Findings(tuple(checks))


def reliability(
    cells: Sequence[ClassifiedCell], bins: int, confidence: float
) -> list[ReliabilityBin]:
    """The steps of probability that have answers, ascending."""
    counts: dict[int, int] = defaultdict(int)
    rights: dict[int, int] = defaultdict(int)
    sums: dict[int, float] = defaultdict(float)
    for cell in cells:
        if cell.confidence_bin is None:
            continue
        counts[cell.confidence_bin] += cell.count
        sums[cell.confidence_bin] += cell.confidence
        rights[cell.confidence_bin] += cell.count if _is_right(cell) else 0
    return [
        ReliabilityBin(
            number / bins,
            (number + 1) / bins,
            count,
            sums[number] / count,
            rights[number] / count,
            *wilson(rights[number], count, confidence),
        )
        for number, count in sorted(counts.items())
    ]


def _is_right(cell: ClassifiedCell) -> bool:
    return cell.predicted is not None and cell.predicted == cell.actual


def _p_value(cells: Sequence[ClassifiedCell]) -> float:
    """Of Spiegelhalter's test (1986) that the probabilities are true."""
    total = sum(cell.calibration_sum for cell in cells)
    variance = sum(cell.calibration_variance for cell in cells)
    if variance <= 0:
        return float(abs(total) < 1e-9)
    return 2 * NormalDist().cdf(-abs(total) / variance**0.5)
