"""Reads the JSON of a body so that no body takes much memory or time, whatever is in it.

Nothing is decoded as a whole but small bodies and what a type has described. Fields come as raw
text, lists in pieces of some 64 KiB. msgspec takes the last of equal names and says nothing; but
every name and every text has two quotes, so what was decoded tells how many quotes there must be.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from itertools import islice
from typing import Any, NotRequired, TypedDict

import msgspec

from mlops_for_mle.serving.errors import (
    FieldError,
    ProblemError,
    readable,
    refused,
    shown,
    unprocessable,
)
from mlops_for_mle.serving.logs import current_request

PIECE = 64 * 1024
VALUES, ROWS, LISTS = (
    re.compile(rb","),
    re.compile(rb"(?<=})\s*,\s*(?={)"),
    re.compile(rb"(?<=\])\s*,\s*(?=\[)"),
)
"""Where the text of a list may be cut, by what it holds."""
REFUSALS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Text = bytes | memoryview
"""JSON as it stands in a body."""

_BOM = b"\xef\xbb\xbf"
_MOST_FIELDS = 5000
# Python refuses to parse longer integers; no feature holds a number of that size anyway.
_LONGEST_INTEGER = 400
_KEY = re.compile(rb'"\s*:')
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_REST_OF_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_NUMBER = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?(?:NaN|Infinity)', re.DOTALL)

_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


class LongValue:
    """Stands for a value whose text is too long to be looked at."""

    def __str__(self) -> str:
        """What an error shows of it."""
        return "a value of more than 64 KiB"


def json_text(body: Text) -> bytes:
    """The JSON of a body: without a byte order mark, and null for NaN, which Python writes.

    Raises:
        ProblemError: 422, it is empty, not UTF-8, not JSON or nested too deeply.
    """
    text = bytes(body).removeprefix(_BOM).strip()
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
        _decode_raw(text)
    except RecursionError:
        raise refused("", "the body is nested too deeply", "JSON of a few levels") from None
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        raise refused("", f"the body is not JSON: {reason}", "JSON") from None
    return text


def fields(raw: Text, path: str = "", known: tuple[str, ...] = ()) -> dict[str, memoryview]:
    """The raw texts of an object's fields.

    Args:
        raw: The object.
        path: Where it stands.
        known: The names that mean something; a long text may have no others, and is not searched.

    Raises:
        ProblemError: 422, a name is given more than once, or there are very many.
        MsgspecError: It is no object.
    """
    decode: Callable[[Text], dict[str, msgspec.Raw]] = _decode_fields
    if len(raw) > PIECE and known:
        decode = _decoder_of(known)
    elif len(raw) > PIECE and len(list(islice(_KEY.finditer(raw), _MOST_FIELDS))) == _MOST_FIELDS:
        raise refused(path, "has too many fields", f"fewer than {_MOST_FIELDS}")
    found = {name: memoryview(one) for name, one in decode(raw).items()}
    if 2 * len(found) + sum(map(quotes_in, found.values())) != quotes_in(raw):
        raise unprocessable(*_repeated(raw, path))
    return found


@lru_cache(maxsize=8)
def _decoder_of(names: tuple[str, ...]) -> Callable[[Text], dict[str, msgspec.Raw]]:
    optional: Any = dict.fromkeys(names, NotRequired[msgspec.Raw])
    fields_type: Any = TypedDict("Fields", optional)  # type: ignore[misc]
    decoder: Any = msgspec.json.Decoder(fields_type)
    return decoder.decode  # type: ignore[no-any-return]


def elements(raw: Text) -> list[memoryview]:
    """The raw texts of the elements of a list that is no longer than some pieces."""
    return [memoryview(one) for one in _decode_elements(raw)]


def pieces(raw: Text, boundary: re.Pattern[bytes]) -> Iterator[Text]:
    """Cut the text of a long list into texts of lists, between elements of one kind."""
    start, end = 1, len(raw) - 1
    if end <= PIECE:
        yield raw
        return
    while start < end:
        at, counted, is_inside = start + PIECE, start, True
        while is_inside:
            found = boundary.search(raw, at, end)
            cut, following = found.span() if found else (end, end)
            is_inside = found is not None and quotes_in(raw[counted:cut]) % 2 == 1
            if is_inside:
                # Nothing is cut inside of a text.
                closed = _REST_OF_TEXT.match(raw, following, end)
                at = counted = closed.end() if closed else end
        yield b"[%b]" % bytes(raw[start:cut])
        start = following
        facts = current_request.get()
        if facts is not None and not facts.is_wanted:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "The client has left")


def kind_of(raw: Text) -> bytes:
    """The first character of a value: ``{`` of an object, ``[`` of a list."""
    return bytes(raw[:1])


def first_of(raw: Text) -> bytes:
    """The first character of the first element of a list."""
    return bytes(raw[1:PIECE]).lstrip()[:1]


def value(raw: Text) -> Any:
    """One value of a body that is JSON."""
    if len(raw) > PIECE:
        return LongValue()
    return json.loads(bytes(raw), parse_int=_read_integer)


def object_of(body: Text, known: tuple[str, ...] = ()) -> dict[str, memoryview]:
    """The raw texts of the fields of a body that is one object; ``known`` as for ``fields``.

    Raises:
        ProblemError: 422, it is none, or a name is given more than once.
    """
    try:
        return fields(body, known=known)
    except REFUSALS:
        text = json_text(body)
    if text[:1] != b"{":
        raise refused("", "the body is no object", "an object", shown(value(text)))
    return fields(text, known=known)


def read_object(body: bytes) -> dict[str, Any]:
    """The fields of a small body that is one object; raises as ``object_of`` does."""
    return {name: value(raw) for name, raw in object_of(body).items()}


def quotes_in(text: Text) -> int:
    """How many quotes begin or end a name or a text."""
    content = bytes(text)
    return (_ESCAPED.sub(b"", content) if b"\\" in content else content).count(b'"')


def quotes_of(document: Any) -> int:
    """How many quotes there are around the names and texts of what was decoded."""
    if isinstance(document, str):
        return 2
    if isinstance(document, Mapping):
        return 2 * len(document) + sum(map(quotes_of, document.values()))
    if isinstance(document, list):
        return sum(map(quotes_of, document))
    return quotes_in(memoryview(document)) if isinstance(document, msgspec.Raw) else 0


def _repeated(raw: Text, path: str) -> Iterator[FieldError]:
    allowed = "each name once"
    if len(raw) > PIECE:
        yield FieldError(
            path, "has a field that is unknown, or is given more than once", None, allowed
        )
        return
    given: dict[str, list[Any]] = {}
    for name, one in json.loads(bytes(raw), parse_int=_read_integer, object_pairs_hook=list):
        given.setdefault(name, []).append(one)
    prefix = f"{path}." if path else ""
    for name, values in given.items():
        if len(values) > 1:
            told = " and ".join(map(shown, values[:3]))
            yield FieldError(prefix + readable(name), "is given more than once", told, allowed)


def _as_json(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if text[:1] == b'"':
        return text
    # Infinity becomes a number that is refused for its size.
    return b"null" if text.endswith(b"NaN") else text.replace(b"Infinity", b"1e999")


def _read_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)
