"""Reads the filters of a list of observations, such as ``length>=4.5``."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.serving.formats.target_values import describe_target, read_target
from mlops_for_mle.serving.http.problems import FieldError, shown, unprocessable

_OPERATORS = (">=", "<=", "!=", "=", ">", "<")
_LARGEST_BIGINT = 2**63 - 1


class Filter(NamedTuple):
    """One condition.

    Attributes:
        column: The column that is compared.
        operator: One of ``=``, ``!=``, ``<``, ``<=``, ``>`` and ``>=``.
        value: What it is compared with.
    """

    column: str
    operator: str
    value: Any


def read_filters(contract: Contract, given: Sequence[str]) -> list[Filter]:
    """Read conditions, all of which must hold.

    Raises:
        ProblemError: 422, names each that is wrong.
    """
    errors: list[FieldError] = []
    found: list[Filter] = []
    readers = _readers(contract)
    # The longest name first, since one may be the beginning of another.
    names = sorted(readers, key=len, reverse=True)
    for text in given:
        split = _split(text, names)
        if split is None:
            allowed = f"a column, one of {' '.join(_OPERATORS)}, a value; columns: "
            errors.append(
                FieldError("filter", "is no condition", shown(text), allowed + ", ".join(readers))
            )
            continue
        column, operator, value = split
        read, allowed = readers[column]
        try:
            found.append(Filter(column, operator, read(value)))
        except (KeyError, ValueError, OverflowError):
            message = f"compares {column} with something else"
            errors.append(FieldError("filter", message, shown(value), allowed))
    if errors:
        raise unprocessable(errors)
    return found


def _split(text: str, names: Sequence[str]) -> tuple[str, str, str] | None:
    for name in names:
        if text.startswith(name):
            rest = text[len(name) :].lstrip()
            for operator in _OPERATORS:
                if rest.startswith(operator):
                    return name, operator, rest[len(operator) :].strip()
    return None


def _readers(contract: Contract) -> dict[str, tuple[Callable[[str], Any], str]]:
    target = contract.target

    def read_class(text: str) -> int | float | str:
        is_code = target.classes and not target.has_text_classes and text.lstrip("-").isdecimal()
        if is_code:
            return read_target(target, int(text))
        return read_target(target, text if target.classes else float(text))

    readers: dict[str, tuple[Callable[[str], Any], str]] = {
        contract.key: (_integer, "a whole number"),
        contract.timestamp: (_time, "a time such as 2026-01-31T12:00:00Z"),
    }
    readers |= {name: _reader(one) for name, one in contract.features.items()}
    readers[target.column] = (read_class, describe_target(target))
    return readers


def _reader(feature: Feature) -> tuple[Callable[[str], Any], str]:
    if feature.type == "integer" or feature.has_integer_categories:
        return _integer, "a whole number"
    if feature.type == "boolean":
        return {"true": True, "false": False}.__getitem__, "true or false"
    if feature.type == "category":
        return _text, "text without NUL"
    if feature.is_time:
        return _time, "a date or time such as 2026-01-31T12:00:00Z"
    return _number, "a number"


def _text(text: str) -> str:
    # Postgres holds none.
    if "\x00" in text:
        raise ValueError
    return text


def _integer(text: str) -> int:
    number = int(text)
    if abs(number) > _LARGEST_BIGINT:
        raise OverflowError
    return number


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _time(text: str) -> datetime:
    # A plus sign in a URL is a space, unless the client has written %2B.
    read = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    return read.astimezone(UTC).replace(tzinfo=None) if read.tzinfo else read
