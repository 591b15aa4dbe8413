"""Reads the row in a message: a bare JSON object, or one in the envelope of Kafka Connect.

Kafka Connect's JsonConverter writes ``{"schema": …, "payload": {…}}``; with the JDBC source
connector the payload is a row of a table, with all of its columns by name.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from mlops_for_mle.contract import Contract
from mlops_for_mle.scoring.kafka.connect_types import EPOCH, ConnectTypeError, plain_values

_ENVELOPE = frozenset({"schema", "payload"})
_BIGINT = range(-(2**63), 2**63)
_SHOWN_CHARACTERS = 80


class BadMessageError(Exception):
    """A message that holds no row; says why, as the rest of a sentence about the message."""


@dataclass(frozen=True, slots=True)
class MessageRow:
    """The row in a message.

    Attributes:
        key: The row's key in the table where it comes from; None where it has none.
        timestamp: When the row was observed, in UTC without a time zone; None where it has none.
        values: All of the row's columns by name; the contract's features are among them.
    """

    key: int | None
    timestamp: datetime | None
    values: Mapping[str, Any]


class MessageReader:
    """Reads the messages of a contract's topic."""

    def __init__(self, contract: Contract) -> None:
        """Take the names of columns from a contract."""
        self._key = contract.key
        self._timestamp = contract.timestamp
        # A table may have a column of this name, whose rows are then no envelope.
        self._may_be_wrapped = _ENVELOPE.isdisjoint(contract.columns)

    def read(self, value: bytes | None) -> MessageRow:
        """Read the value of a message.

        Columns that the contract does not name are ignored, since a table may have others; what
        the contract demands of its features is not looked at here.

        Raises:
            BadMessageError: It holds no row.
        """
        if value is None:
            raise BadMessageError("has no value (it is a tombstone)")
        document = _parse(value)
        if self._may_be_wrapped and "payload" in document and document.keys() <= _ENVELOPE:
            document = _unwrap(document)
        return MessageRow(
            _read_key(self._key, document.get(self._key)),
            _read_timestamp(self._timestamp, document.get(self._timestamp)),
            document,
        )


def _unwrap(envelope: dict[str, Any]) -> dict[str, Any]:
    payload = envelope["payload"]
    if not isinstance(payload, dict):
        raise BadMessageError(f"payload: is no object, found {_shown(payload)}")
    try:
        return plain_values(envelope.get("schema"), payload)
    except ConnectTypeError as error:
        raise BadMessageError(
            f"{error.field}: is no {error.expected} of Kafka Connect, found {_shown(error.value)}"
        ) from None


def written_at(message: Message) -> datetime | None:
    """When a message was written, in UTC; None where its topic keeps no times."""
    kind, milliseconds = message.timestamp()
    if kind == TIMESTAMP_NOT_AVAILABLE:
        return None
    try:
        return EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def _parse(value: bytes) -> dict[str, Any]:
    try:
        document = json.loads(
            value.decode("utf-8"), object_pairs_hook=_read_object, parse_constant=_refuse
        )
    except UnicodeDecodeError as error:
        found = f"the byte 0x{value[error.start]:02x} at position {error.start}"
        raise BadMessageError(f"is not UTF-8, found {found}") from None
    except json.JSONDecodeError as error:
        raise BadMessageError(f"is no JSON: {error.msg} at position {error.pos}") from None
    except RecursionError:
        raise BadMessageError("is nested too deeply") from None
    # Python refuses to parse integers of thousands of digits.
    except ValueError as error:
        raise BadMessageError(f"is no JSON that can be read: {error}") from None
    if not isinstance(document, dict):
        raise BadMessageError(f"is no object, found {_shown(document)}")
    return document


def _read_object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    given = list(pairs)
    result = dict(given)
    if len(result) < len(given):
        names = [name for name, _ in given]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadMessageError(f"{_shown(twice)} is given more than once")
    return result


def _refuse(literal: str) -> None:
    raise BadMessageError(f"is no JSON: {literal} is no number")


def _read_key(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value in _BIGINT:
        return value
    raise BadMessageError(f"{name}: is no whole number of 64 bits, found {_shown(value)}")


def _read_timestamp(name: str, value: Any) -> datetime | None:
    """Read text, or the milliseconds since 1970 that Connect's type Timestamp is written as."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
        if isinstance(value, int) and not isinstance(value, bool):
            return EPOCH + timedelta(milliseconds=value)
    except (ValueError, OverflowError):
        pass
    raise BadMessageError(
        f"{name}: is no time such as 2026-01-31 12:30:00.5 or milliseconds since 1970, "
        f"found {_shown(value)}"
    )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
