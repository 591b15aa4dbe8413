"""What a contract demands of a feature's values: for whole columns at once, and in words."""

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Feature
from mlops_for_mle.feature_limits import bounds, number_fault
from mlops_for_mle.feature_words import describe
from mlops_for_mle.release import Precision

Column = npt.NDArray[np.float64]


class FeatureLimits:
    """The limits of one feature, for a model that computes in a precision."""

    def __init__(self, feature: Feature, precision: Precision) -> None:
        """Prepare for a feature of the contract and the precision of the model's input."""
        self._feature = feature
        self._precision: Precision = precision
        self._lower, self._upper = bounds(feature, precision)
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
        return number_fault(value, self._feature, self._precision)

    def describe(self) -> str:
        """What the feature may hold, in words."""
        return describe(self._feature)
