"""Reads JSON as it should be read when somebody will be told what is wrong with it."""

import json
from collections.abc import Iterable
from typing import Any

from mlops_for_mle.serving.problems import FieldError, shown, unprocessable

# Python refuses to parse longer integers; no feature holds a number of that size anyway.
_LONGEST_INTEGER = 400


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
