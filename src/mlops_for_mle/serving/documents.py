"""Reads the JSON of a body so that no body takes much memory or time, whatever is in it.

msgspec decodes what a type describes, and long lists in pieces of some 64 KiB. What does not fit
its type is read again without one, to say what is wrong, unless it is long. What cannot be read
raises ProblemError 422, or one of ``DECODE_ERRORS``, which ``read_json`` turns into that.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import msgspec

from mlops_for_mle.serving.errors import refused
from mlops_for_mle.serving.request import current_request

CHUNK = 64 * 1024
# Where the text of a list may be cut, by what it holds.
VALUES = re.compile(rb",")
ROWS = re.compile(rb"(?<=})\s*,\s*(?={)")
LISTS = re.compile(rb"(?<=\])\s*,\s*(?=\[)")
DECODE_ERRORS = (msgspec.MsgspecError, RecursionError)

Result = TypeVar("Result")

encode = msgspec.json.Encoder().encode

_BOM = b"\xef\xbb\xbf"
_MAX_EXPLAINED_BYTES = 4 * CHUNK
_MAX_FIELDS = 5000
_KEY = re.compile(rb'"\s*:')
# A text that does not end matches, too: a search from each of its quotes would take for ever.
_TEXT_OR_NAN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|NaN', re.DOTALL)


def read_json(body: bytes, read: Callable[[bytes], Result], allowed: str = "an object") -> Result:
    """Let a reader read a body; if need be without its byte order mark, and with null for NaN."""
    try:
        return read(body)
    except DECODE_ERRORS:
        text = body.removeprefix(_BOM)
    try:
        return read(_without_nan(text) if b"NaN" in text else text)
    except DECODE_ERRORS as error:
        raise refused("", str(error), allowed) from None


def decode_fields(text: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[Result]) -> Result:
    """Decode an object with the raw texts of its fields, unless there are very many."""
    text = bytes(text)
    # Colons are counted at once, while a look behind each quote takes six times as long as reading.
    is_suspect = len(text) > _MAX_EXPLAINED_BYTES and text.count(b":") > _MAX_FIELDS
    if is_suspect and any(islice(_KEY.finditer(text), _MAX_FIELDS, None)):
        raise msgspec.ValidationError(f"there are more than {_MAX_FIELDS} fields")
    return decoder.decode(text)


def plain(text: bytes | msgspec.Raw, form: Any = Any) -> Any:
    """Decode a text that is not long, which must have a form such as ``list[str]``."""
    if len(text := bytes(text)) > _MAX_EXPLAINED_BYTES:
        raise msgspec.ValidationError(f"is wrong, or longer than {_MAX_EXPLAINED_BYTES >> 10} KiB")
    return msgspec.json.decode(text, type=form)


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces with commas between."""
    for number, piece in enumerate(pieces):
        if number:
            yield b","
        yield piece


def split_list(text: bytes, boundary: re.Pattern[bytes], size: int = CHUNK) -> Iterator[bytes]:
    """Cut the text of a long list into texts of lists, unless nobody waits for the answer."""
    start, first = 0, b""
    while True:
        cut = following = len(text)
        counted, is_inside = start, False
        for match in boundary.finditer(text, start + size, start + _MAX_EXPLAINED_BYTES):
            # Nothing is cut inside of a text, which an odd number of quotes tells.
            passed = text[counted : match.start()]
            if b"\\" in passed:
                passed = passed.replace(b"\\\\", b"").replace(b'\\"', b"")
            is_inside ^= passed.count(b'"') % 2 == 1
            counted = match.start()
            if not is_inside:
                cut, following = match.span()
                break
        if cut == len(text):
            yield first + text[start:]
            return
        yield b"%b%b]" % (first, text[start:cut])
        start, first = following, b"["
        if (request := current_request.get(None)) is not None:
            request.raise_if_cancelled()


def _without_nan(text: bytes) -> bytes:
    # re.sub would hold every part until the end.
    result, start = bytearray(), 0
    for match in _TEXT_OR_NAN.finditer(text):
        if match[0] == b"NaN":
            result += text[start : match.start()] + b"null"
            start = match.end()
    return bytes(result + text[start:])
