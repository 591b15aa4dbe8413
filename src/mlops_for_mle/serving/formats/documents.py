"""Reads JSON as it should be read when somebody will be told what is wrong with it."""

import json
from collections.abc import Iterable
from typing import Any

from mlops_for_mle.serving.http.problems import FieldError, shown, unprocessable

_KEPT_FAULTS = 50
# Python refuses to parse longer integers; no feature holds a number of that size anyway.
_LONGEST_INTEGER = 400
_SHOWN_NAME = 80
_HOLDERS = (dict, list)


class DuplicateKey:
    """Stands for the values of a key that an object has more than once."""

    def __init__(self, values: list[Any]) -> None:
        """Keep the values in the order in which they were given."""
        self.values = values


def parse_json(body: bytes) -> Any:
    """Parse a body; the literals NaN and Infinity pass, so that they can be named in an error.

    Raises:
        ProblemError: 422, it is empty, not UTF-8, not JSON or nested too deeply.
    """
    if not body.strip():
        raise unprocessable([FieldError("", "the body is empty", None, "JSON")])
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        given = f"the byte 0x{body[error.start]:02x} at position {error.start}"
        raise unprocessable([FieldError("", "the body is not UTF-8", given, "JSON")]) from None
    try:
        return json.loads(text, object_pairs_hook=_read_object, parse_int=_read_integer)
    except json.JSONDecodeError as error:
        message = f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        given = shown(text[error.pos : error.pos + 20])
        raise unprocessable([FieldError("", message, given, "JSON")]) from None
    except RecursionError:
        raise unprocessable(
            [FieldError("", "the body is nested too deeply", None, "JSON of a few levels")]
        ) from None


def refuse_repeated_keys(document: Any) -> None:
    """Refuse a document, as ``parse_json`` gave it, in which an object has a key twice.

    Raises:
        ProblemError: 422; names where.
    """
    faults: list[FieldError] = []
    # A list of what is left, since documents may be nested deeper than functions can be.
    left: list[tuple[str, Any]] = [("", document)]
    while left:
        path, value = left.pop()
        if isinstance(value, DuplicateKey):
            faults.append(FieldError(path, "is given more than once", None, "each name once"))
        elif isinstance(value, dict):
            prefix = f"{path}." if path else ""
            left += [(prefix + name[:_SHOWN_NAME], one) for name, one in reversed(value.items())]
        elif isinstance(value, list):
            held = [(number, one) for number, one in enumerate(value) if isinstance(one, _HOLDERS)]
            left += [(f"{path}[{number}]", one) for number, one in reversed(held)]
    if faults:
        raise unprocessable(faults[:_KEPT_FAULTS], len(faults))


def _read_object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key not in result:
            result[key] = value
        elif isinstance(result[key], DuplicateKey):
            result[key].values.append(value)
        else:
            result[key] = DuplicateKey([result[key], value])
    return result


def _read_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)
