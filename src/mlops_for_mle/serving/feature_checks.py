"""What a contract demands of values, for one value with its reasons and for whole matrices."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.release import Precision
from mlops_for_mle.serving.documents import DuplicateKey
from mlops_for_mle.serving.problems import FieldError, shown, unprocessable

Matrix = npt.NDArray[np.float64]

_KEPT_FAULTS = 50


class Faults:
    """What is wrong with a request: all of it is counted, the first of it is told."""

    def __init__(self) -> None:
        """Begin with nothing wrong."""
        self._kept: list[FieldError] = []
        self._count = 0

    def add(self, path: str, message: str, given: Any, allowed: str) -> None:
        """Note one fault; ``given`` is the value itself."""
        self.add_missing(path, message, allowed, shown_value(given))

    def add_missing(self, path: str, message: str, allowed: str, given: str | None = None) -> None:
        """Note that something is not there, or whose value is described already."""
        self._count += 1
        if len(self._kept) < _KEPT_FAULTS:
            self._kept.append(FieldError(path, message, given, allowed))

    def raise_if_any(self) -> None:
        """Refuse the request if anything is wrong.

        Raises:
            ProblemError: 422.
        """
        if self._count:
            raise unprocessable(self._kept, self._count)


class FeatureChecks:
    """The limits of a contract's features and of the precision in which the model computes."""

    def __init__(self, contract: Contract, precision: Precision) -> None:
        """Prepare for a contract and a model of this precision."""
        self.features = contract.features
        self._limit = float(np.finfo(precision).max)
        bounds = [self.bounds(feature) for feature in contract.features.values()]
        self._lower = np.array([lower for lower, _ in bounds])
        self._upper = np.array([upper for _, upper in bounds])
        self._whole = np.array([one.type == "integer" for one in contract.features.values()])
        self._has_whole = bool(self._whole.any())

    def bounds(self, feature: Feature) -> tuple[float, float]:
        """The smallest and the largest value of a feature, inclusive."""
        lower = -self._limit if feature.minimum is None else max(feature.minimum, -self._limit)
        upper = self._limit if feature.maximum is None else min(feature.maximum, self._limit)
        return lower, upper

    def accept(self, rows: Matrix) -> bool:
        """Whether every value of a matrix of rows by features is one that the contract allows."""
        if not ((rows >= self._lower) & (rows <= self._upper)).all():
            return False
        return not self._has_whole or bool((rows[:, self._whole] % 1 == 0).all())

    def fault(self, value: Any, feature: Feature) -> str | None:
        """What is wrong with a value, or None."""
        if isinstance(value, DuplicateKey):
            return "is given more than once"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "is no number"
        # Integers may be too large for float(), which the comparison is not afraid of.
        if not -self._limit <= value <= self._limit:
            return "is not finite" if _is_not_finite(value) else "is beyond what the model computes"
        if feature.minimum is not None and value < feature.minimum:
            return "is too small"
        if feature.maximum is not None and value > feature.maximum:
            return "is too large"
        is_broken = feature.type == "integer" and value % 1 != 0
        return "is no whole number" if is_broken else None


def describe(feature: Feature) -> str:
    """What a feature may hold, in words."""
    kind = "a whole number" if feature.type == "integer" else "a number"
    if feature.minimum is not None and feature.maximum is not None:
        return f"{kind} from {feature.minimum:g} to {feature.maximum:g}"
    if feature.minimum is not None:
        return f"{kind} of at least {feature.minimum:g}"
    if feature.maximum is not None:
        return f"{kind} of at most {feature.maximum:g}"
    return kind


def shown_value(value: Any) -> str:
    """A value as it was given, shortened; both values of a field that was given twice."""
    if isinstance(value, DuplicateKey):
        return " and ".join(shown(one) for one in value.values[:3])
    return shown(value)


def _is_not_finite(value: float) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
