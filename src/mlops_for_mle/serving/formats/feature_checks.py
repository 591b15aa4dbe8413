"""What a contract demands of values, for one value with its reasons and for whole matrices."""

from typing import Any, NamedTuple

import numpy as np

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.encoding import Matrix, encoding_of
from mlops_for_mle.feature_limits import bounds, number_fault
from mlops_for_mle.feature_words import describe
from mlops_for_mle.release import Precision
from mlops_for_mle.serving.formats.documents import DuplicateKey
from mlops_for_mle.serving.http.problems import FieldError, shown, unprocessable
from mlops_for_mle.value_faults import fault_of

__all__ = ["Faults", "FeatureChecks", "Matrix", "ReadRows", "describe", "plain", "shown_value"]

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
    """The limits of a contract's features and of the precision in which the model computes.

    Attributes:
        features: The contract's features by name.
        are_plain: Whether all are numbers that may not be missing, so that a matrix holds them.
        encoding: How their values become the model's matrix.
    """

    def __init__(self, contract: Contract, precision: Precision) -> None:
        """Prepare for a contract and a model of this precision."""
        self.features = contract.features
        self.encoding = encoding_of(contract)
        self.are_plain = self.encoding.is_identity
        self._precision: Precision = precision
        limits = [self.bounds(feature) for feature in contract.features.values()]
        self._lower = np.array([lower for lower, _ in limits])
        self._upper = np.array([upper for _, upper in limits])
        self._whole = np.array([one.type == "integer" for one in contract.features.values()])
        self._has_whole = bool(self._whole.any())

    def bounds(self, feature: Feature) -> tuple[float, float]:
        """The smallest and the largest value of a feature, inclusive."""
        return bounds(feature, self._precision)

    def accept(self, rows: Matrix) -> bool:
        """Whether every value of a matrix of plain numbers is one that the contract allows."""
        if not ((rows >= self._lower) & (rows <= self._upper)).all():
            return False
        return not self._has_whole or bool((rows[:, self._whole] % 1 == 0).all())

    def fault(self, value: Any, feature: Feature) -> str | None:
        """What is wrong with a value, or None."""
        if isinstance(value, DuplicateKey):
            return "is given more than once"
        if value is None and feature.is_optional:
            return None
        return self._number_fault(value, feature) if feature.is_number else fault_of(value, feature)

    def read_rows(self, rows: list[list[Any]]) -> "ReadRows":
        """Rows of values that were checked, with the matrix that the model takes."""
        if self.are_plain:
            return ReadRows(np.array(rows, dtype=np.float64))
        return ReadRows(self.encoding.rows(rows), rows)

    def _number_fault(self, value: Any, feature: Feature) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "is no number"
        return number_fault(value, feature, self._precision)


class ReadRows(NamedTuple):
    """The rows of a request.

    Attributes:
        matrix: As the contract's encoding gives them.
        given: Their plain values in the order of the contract; None where the matrix holds them.
    """

    matrix: Matrix
    given: list[list[Any]] | None = None


def plain(value: Any, feature: Feature) -> Any:
    """A value that was checked, in the form in which it is encoded and logged."""
    if value is None or feature.type in ("boolean", "date", "timestamp"):
        return value
    if feature.type == "integer" or feature.has_integer_categories:
        return int(value)
    return value if feature.type == "category" else float(value)


def shown_value(value: Any) -> str:
    """A value as it was given, shortened; both values of a field that was given twice."""
    if isinstance(value, DuplicateKey):
        return " and ".join(shown(one) for one in value.values[:3])
    return shown(value)
