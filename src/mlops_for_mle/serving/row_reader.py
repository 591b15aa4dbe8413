"""Reads the rows of a request by a release's contract.

There are two ways to the same result. The short way lets msgspec decode and check a body that is
right, in a microsecond. Whatever it refuses goes the long way, which finds every error and says
for each where it is, what was given and what is allowed.
"""

import math
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.release import Precision
from mlops_for_mle.serving.documents import DuplicateKey, parse_json
from mlops_for_mle.serving.problems import FieldError, shown, unprocessable

Matrix = npt.NDArray[np.float64]


class RowReader:
    """Turns bodies into matrices of rows by features, in the order of the contract."""

    def __init__(self, contract: Contract, precision: Precision) -> None:
        """Prepare for the rows of a contract and a model that computes in this precision."""
        self._limit = float(np.finfo(precision).max)
        self._features = contract.features
        self._decoder = msgspec.json.Decoder(self._row_type(contract))
        self._quote_count = 2 * len(contract.features)

    def read_row(self, body: bytes) -> Matrix:
        """Read one row, given as an object; the result has the shape (1, features).

        Raises:
            ProblemError: 422, the body is no such row; names every field that is wrong.
        """
        # msgspec takes the last of equal keys. A body of numbers has quotes only around its
        # keys, so more quotes than expected send it the long way, where equal keys are found.
        if body.count(b'"') == self._quote_count:
            try:
                row = self._decoder.decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass
            else:
                return np.array([msgspec.structs.astuple(row)], dtype=np.float64)
        return self._explain_row(parse_json(body))

    def describe(self, name: str) -> str:
        """What a feature may hold, in words."""
        return _describe(self._features[name])

    def _explain_row(self, document: Any) -> Matrix:
        if not isinstance(document, dict):
            fields = ", ".join(self._features)
            raise unprocessable(
                [FieldError("", "is no object", shown(document), f"an object with {fields}")]
            )
        errors: list[FieldError] = []
        values = [
            self._value(name, feature, document, errors) for name, feature in self._features.items()
        ]
        allowed = ", ".join(self._features)
        errors.extend(
            FieldError(name, "is an unknown field", _shown(value), allowed)
            for name, value in document.items()
            if name not in self._features
        )
        if errors:
            raise unprocessable(errors)
        return np.array([values], dtype=np.float64)

    def _value(
        self, name: str, feature: Feature, document: dict[str, Any], errors: list[FieldError]
    ) -> float:
        allowed = _describe(feature)
        if name not in document:
            errors.append(FieldError(name, "is missing", None, allowed))
            return math.nan
        value = document[name]
        message = self._fault(value, feature)
        if message is not None:
            errors.append(FieldError(name, message, _shown(value), allowed))
            return math.nan
        return float(value)

    def _fault(self, value: Any, feature: Feature) -> str | None:
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

    def _row_type(self, contract: Contract) -> type[msgspec.Struct]:
        fields = []
        names = {}
        for index, (name, feature) in enumerate(contract.features.items()):
            limits = msgspec.Meta(
                ge=-self._limit if feature.minimum is None else feature.minimum,
                le=self._limit if feature.maximum is None else feature.maximum,
                multiple_of=1.0 if feature.type == "integer" else None,
            )
            fields.append((f"field_{index}", Annotated[float, limits]))
            names[f"field_{index}"] = name
        return msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=True, gc=False)


def _is_not_finite(value: float) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _describe(feature: Feature) -> str:
    kind = "a whole number" if feature.type == "integer" else "a number"
    if feature.minimum is not None and feature.maximum is not None:
        return f"{kind} from {feature.minimum:g} to {feature.maximum:g}"
    if feature.minimum is not None:
        return f"{kind} of at least {feature.minimum:g}"
    if feature.maximum is not None:
        return f"{kind} of at most {feature.maximum:g}"
    return kind


def _shown(value: Any) -> str:
    if isinstance(value, DuplicateKey):
        return " and ".join(shown(one) for one in value.values[:3])
    return shown(value)


def row_schema(contract: Contract) -> dict[str, Any]:
    """The JSON schema of one row."""
    properties = {}
    for name, feature in contract.features.items():
        facts = {
            "type": "integer" if feature.type == "integer" else "number",
            "minimum": feature.minimum,
            "maximum": feature.maximum,
            "description": _documentation(feature),
        }
        properties[name] = {key: value for key, value in facts.items() if value is not None}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _documentation(feature: Feature) -> str | None:
    unit = f"in {feature.unit}" if feature.unit else None
    return ", ".join(part for part in (feature.description, unit) if part) or None
