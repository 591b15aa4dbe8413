"""Reads the JSON of a body so that no body takes much memory or time, whatever is in it.

msgspec decodes what a type describes, and long lists in pieces of some 64 KiB. It takes the last of
equal names and says nothing; but what it decoded then has fewer quotes than the text. What it
refuses is read again by Python's own reader, to say what is wrong, unless it is long.
"""

import json
import re
from collections import Counter
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
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW = msgspec.json.Decoder(msgspec.Raw)


def read_json(body: bytes, read: Callable[[bytes], Found], allowed: str = "an object") -> Found:
    """Let a reader read a body; what it refuses, it is given again as ``json_text`` has it.

    Raises:
        ProblemError: 422, it is no JSON, or the reader refuses it.
    """
    try:
        return read(body)
    except REFUSALS:
        text = json_text(body)
    try:
        return read(text)
    except REFUSALS as error:
        raise refused("", str(error), allowed) from None


def json_text(body: bytes) -> bytes:
    """The JSON of a body: without a byte order mark, and null for NaN, which Python writes.

    Raises:
        ProblemError: 422, it is empty, not UTF-8, not JSON or nested too deeply.
    """
    text = body.removeprefix(_BOM).strip()
    if not text:
        raise refused("", "the body is empty", "JSON")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        given = f"the byte 0x{text[error.start]:02x} at position {error.start}"
        raise refused("", "the body is not UTF-8", "JSON", given) from None
    if b"NaN" in text or b"Infinity" in text:
        text = _NO_NUMBER.sub(_as_json, text)
    try:
        _RAW.decode(text)
    except RecursionError:
        raise refused("", "the body is nested too deeply", "JSON of a few levels") from None
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        raise refused("", f"the body is not JSON: {reason}", "JSON") from None
    return text


def typed(text: Text, decoder: msgspec.json.Decoder[Found], where: str = "") -> Found:
    """Decode what a type describes, whose fields that are not given are UNSET.

    Raises:
        ProblemError: 422, a name is given more than once.
        MsgspecError: It is something else.
    """
    try:
        found = decoder.decode(text)
    except msgspec.ValidationError:
        plain(text)
        raise
    if quotes_in(text) != quotes_in(encode(found)):
        if len(text) > LONGEST_EXPLAINED:
            what = "has a field that is unknown, or is given more than once"
            raise refused(where, what, "each name once")
        plain(text)
    return found


def fields(text: Text, where: str = "") -> dict[str, memoryview]:
    """The raw texts of an object's fields; raises as ``typed`` does."""
    if len(text) > PIECE and len(list(islice(_KEY.finditer(text), _MOST_FIELDS))) == _MOST_FIELDS:
        raise refused(where, "has too many fields", f"fewer than {_MOST_FIELDS}")
    return {name: memoryview(one) for name, one in typed(text, _FIELDS, where).items()}


def plain(text: Text) -> Any:
    """Everything in a text that is not long.

    Raises:
        ProblemError: 422, a name is given more than once.
        MsgspecError: The text is long.
    """
    if len(text) > LONGEST_EXPLAINED:
        raise msgspec.ValidationError(f"is longer than {LONGEST_EXPLAINED >> 10} KiB")
    return json.loads(
        bytes(text).decode(),
        parse_int=_read_integer,
        parse_constant=_refuse_constant,
        object_pairs_hook=_object,
    )


def read_object(body: bytes) -> dict[str, Any]:
    """The fields of a small body that is one object.

    Raises:
        ProblemError: 422, it is none, or long, or a name is given more than once.
    """
    document = read_json(body, plain)
    if not isinstance(document, dict):
        raise refused("", "the body is no object", "an object", shown(document))
    return document


def pieces(text: Text, boundary: re.Pattern[bytes]) -> Iterator[Text]:
    """Cut the text of a long list into texts of lists, between elements of one kind.

    Raises:
        ProblemError: 400, nobody waits for the answer any more.
    """
    if len(text) <= PIECE:
        yield text
        return
    start, end = 1, len(text) - 1
    while start < end:
        cut = following = end
        counted, is_inside = start, False
        for found in boundary.finditer(text, start + PIECE, min(end, start + LONGEST_EXPLAINED)):
            # Nothing is cut inside of a text.
            is_inside ^= quotes_in(text[counted : found.start()]) % 2 == 1
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


def quotes_in(text: Text) -> int:
    """How many quotes begin or end a name or a text."""
    content = bytes(text)
    if b"\\" in content:
        content = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    return content.count(b'"')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        values = [shown(one) for name, one in pairs if name == twice]
        raise refused(twice, "is given more than once", "each name once", " and ".join(values[:3]))
    return found


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
