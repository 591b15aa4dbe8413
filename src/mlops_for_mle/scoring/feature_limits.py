"""What a contract demands of feature values: for whole columns at once, and in words."""

import math

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Feature
from mlops_for_mle.feature_words import describe
from mlops_for_mle.release import Precision

Column = npt.NDArray[np.float64]


class FeatureLimits:
    """The limits of one feature, for a model that computes in a precision."""

    def __init__(self, feature: Feature, precision: Precision) -> None:
        """Prepare for a feature of the contract and the precision of the model's input."""
        limit = float(np.finfo(precision).max)
        self._computable = limit
        self._feature = feature
        self._lower = -limit if feature.minimum is None else max(feature.minimum, -limit)
        self._upper = limit if feature.maximum is None else min(feature.maximum, limit)
        self._is_whole = feature.type == "integer"

    def violations(self, column: Column) -> npt.NDArray[np.intp]:
        """The positions of the values that the contract does not allow, missing ones included."""
        allowed = (column >= self._lower) & (column <= self._upper)
        if self._is_whole:
            with np.errstate(invalid="ignore"):
                allowed &= column % 1 == 0
        return np.flatnonzero(~allowed)

    def fault(self, value: float) -> str | None:
        """What is wrong with a number, or None."""
        if not math.isfinite(value):
            return "is not finite"
        if abs(value) > self._computable:
            return "is beyond what the model computes"
        if value < self._lower:
            return "is too small"
        if value > self._upper:
            return "is too large"
        return "is no whole number" if self._is_whole and value % 1 != 0 else None

    def describe(self) -> str:
        """What the feature may hold, in words."""
        return describe(self._feature)
