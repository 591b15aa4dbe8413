"""What was measured, before it is judged, and the correction for looking at many things at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from mlops_for_mle.monitoring_run import Area

Severity = Literal["none", "warning", "alarm"]


@dataclass(frozen=True)
class Check:
    """One number, and what it amounts to.

    Attributes:
        area: What it is about.
        subject: A feature's name, a class, or what else was looked at.
        metric: What was measured.
        value: None where there was nothing to measure.
        lower: The lower end of the confidence interval.
        upper: Its upper end.
        threshold: What the value was compared with.
        severity: What the value amounts to.
        p_value: Of the test that must be significant for it, not yet corrected; None without one.
        unconfirmed: What it amounts to where the test is not significant.
        message: What to say if it amounts to something.
    """

    area: Area
    subject: str
    metric: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    threshold: float | None = None
    severity: Severity = "none"
    p_value: float | None = None
    unconfirmed: Severity = "none"
    message: str = ""


@dataclass(frozen=True)
class Findings:
    """What one area has found.

    Attributes:
        checks: The numbers.
        gap: Why the area could not be judged; empty where it was, or need not be.
    """

    checks: tuple[Check, ...] = ()
    gap: str = ""


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests (Holm 1979).

    Whoever rejects where the corrected value is below a level errs in any of the tests at most
    with that probability, however the tests depend on one another.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def two_sided(confidence: float) -> float:
    """How many standard errors the interval of a normal estimate reaches to each side."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """The interval of a proportion (Wilson 1927)."""
    z = two_sided(confidence)
    share = successes / trials
    middle = share + z * z / (2 * trials)
    reach = z * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    scale = 1 + z * z / trials
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def fraction(part: int, whole: int) -> float | None:
    """The share; None of nothing."""
    return part / whole if whole else None


def share(value: float) -> str:
    """A share for people, such as ``4.2 %``."""
    return f"{100 * value:.3g} %"
