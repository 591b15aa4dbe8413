"""Reads the JSON of a body so that no body takes much memory or time, whatever is in it.

msgspec decodes what a type describes, and long lists in pieces of some 64 KiB. What it refuses is
read again by Python's own reader, to say what is wrong, unless it is long. What is no such JSON
raises ProblemError 422, or one of ``REFUSALS``, of which ``read_json`` makes one.
"""

import json
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from itertools import islice
from typing import Any, TypeVar

import msgspec

from mlops_for_mle.serving.errors import ProblemError, refused, shown
from mlops_for_mle.serving.logs import current_request

PIECE = 64 * 1024
LONGEST_EXPLAINED = 4 * PIECE
VALUES, ROWS, LISTS = (
    re.compile(rb","),
    re.compile(rb"(?<=})\s*,\s*(?={)"),
    re.compile(rb"(?<=\])\s*,\s*(?=\[)"),
)
"""Where the text of a list may be cut, by what it holds."""
REFUSALS = (msgspec.MsgspecError, json.JSONDecodeError, UnicodeDecodeError, RecursionError)

Text = bytes | memoryview
"""JSON as it stands in a body."""
Found = TypeVar("Found")

encode = msgspec.json.Encoder().encode

_BOM = b"\xef\xbb\xbf"
_MOST_FIELDS = 5000
# Python refuses to parse longer integers; no feature holds a number of that size anyway.
_LONGEST_INTEGER = 400
_KEY = re.compile(rb'"\s*:')
_NO_NUMBER = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?(?:NaN|Infinity)', re.DOTALL)
FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW = msgspec.json.Decoder(msgspec.Raw)


def read_json(body: bytes, read: Callable[[bytes], Found], allowed: str = "an object") -> Found:
    """Let a reader read a body; what it refuses, it is given again as ``json_text`` has it."""
    try:
        return read(body)
    except REFUSALS:
        text = json_text(body)
    try:
        return read(text)
    except REFUSALS as error:
        raise refused("", str(error), allowed) from None


def json_text(body: bytes) -> bytes:
    """The JSON of a body: without a byte order mark, and null for NaN, which Python writes."""
    text = body.removeprefix(_BOM).strip()
    if not text:
        raise refused("", "the body is empty", "JSON")
    if b"NaN" in text or b"Infinity" in text:
        text = _NO_NUMBER.sub(_as_json, text)
    try:
        text.decode()
        _RAW.decode(text)
    except RecursionError:
        raise refused("", "the body is nested too deeply", "JSON of a few levels") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise refused("", f"the body is not JSON: {error}", "JSON in UTF-8") from None
    return text


def typed(text: Text, decoder: msgspec.json.Decoder[Found], where: str = "") -> Found:
    """Decode what a type describes, and say where it stands if it is something else."""
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        if where:
            raise refused(where, f"does not fit: {error}", "what the message says") from None
        raise


def fields(text: Text, decoder: msgspec.json.Decoder[Found], where: str = "") -> Found:
    """Decode an object with the raw texts of its fields; raises as ``typed`` does."""
    if len(text) > PIECE and len(list(islice(_KEY.finditer(text), _MOST_FIELDS))) == _MOST_FIELDS:
        raise refused(where, "has too many fields", f"fewer than {_MOST_FIELDS}")
    return typed(text, decoder, where)


def plain(text: Text) -> Any:
    """Everything in a text that is not long."""
    if len(text) > LONGEST_EXPLAINED:
        raise msgspec.ValidationError(f"is longer than {LONGEST_EXPLAINED >> 10} KiB")
    # Of bytes it would guess the encoding.
    document = bytes(text).decode()
    return json.loads(document, parse_int=_read_integer, parse_constant=_refuse_constant)


def read_object(body: bytes) -> dict[str, Any]:
    """The fields of a small body that is one object."""
    document = read_json(body, plain)
    if not isinstance(document, dict):
        raise refused("", "the body is no object", "an object", shown(document))
    return document


def pieces(text: Text, boundary: re.Pattern[bytes]) -> Iterator[Text]:
    """Cut the text of a long list into texts of lists, unless nobody waits for the answer."""
    if len(text) <= PIECE:
        yield text
        return
    start, end = 1, len(text) - 1
    while start < end:
        cut = following = end
        counted, is_inside = start, False
        for found in boundary.finditer(text, start + PIECE, min(end, start + LONGEST_EXPLAINED)):
            # Nothing is cut inside of a text.
            is_inside ^= _quotes_in(text[counted : found.start()]) % 2 == 1
            counted = found.start()
            if not is_inside:
                cut, following = found.span()
                break
        yield b"[%b]" % bytes(text[start:cut])
        start = following
        facts = current_request.get()
        if facts is not None and not facts.is_wanted:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "The client has left")


def kind_of(text: Text) -> bytes:
    """The first character of a value: ``{`` of an object, ``[`` of a list."""
    return bytes(text[:1])


def first_of(text: Text) -> bytes:
    """The first character of the first element of a list."""
    return bytes(text[1:PIECE]).lstrip()[:1]


def _quotes_in(text: Text) -> int:
    """How many quotes begin or end a text."""
    return bytes(text).replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')


def _refuse_constant(name: str) -> None:
    raise msgspec.DecodeError(f"{name} is no JSON")


def _as_json(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if text[:1] == b'"':
        return text
    # Infinity becomes a number that is refused for its size.
    return b"null" if text.endswith(b"NaN") else text.replace(b"Infinity", b"1e999")


def _read_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)
