"""What a contract, and the precision in which a model computes, demand of numbers."""

import math

import numpy as np

from mlops_for_mle.contract.model import Feature
from mlops_for_mle.release import Precision


def bounds(feature: Feature, precision: Precision) -> tuple[float, float]:
    """The smallest and the largest value of a feature, inclusive."""
    limit = _largest(precision)
    lower = -limit if feature.minimum is None else max(feature.minimum, -limit)
    upper = limit if feature.maximum is None else min(feature.maximum, limit)
    return lower, upper


def number_fault(value: float, feature: Feature, precision: Precision) -> str | None:
    """What is wrong with a number of a feature, or None."""
    limit = _largest(precision)
    # Integers may be too large for float(), which the comparison is not afraid of.
    if not -limit <= value <= limit:
        is_number = isinstance(value, int) or math.isfinite(value)
        return "is beyond what the model computes" if is_number else "is not finite"
    if feature.minimum is not None and value < feature.minimum:
        return "is too small"
    if feature.maximum is not None and value > feature.maximum:
        return "is too large"
    return "is no whole number" if feature.type == "integer" and value % 1 != 0 else None


def _largest(precision: Precision) -> float:
    return float(np.finfo(precision).max)
