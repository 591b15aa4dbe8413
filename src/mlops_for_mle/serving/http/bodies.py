"""Reads request bodies: bounded, decompressed, of a declared type."""

import zlib
from collections.abc import Mapping
from http import HTTPStatus

from starlette.types import Receive

from mlops_for_mle.serving.http.problems import FieldError, ProblemError, unprocessable

JSON_TYPE = b"application/json"

Headers = Mapping[bytes, bytes]

# Lets zlib find out by itself whether the stream is gzip or zlib.
_GZIP_OR_ZLIB = 47


async def read_body(receive: Receive, headers: Headers, limit: int) -> bytes:
    """Read the whole body.

    Raises:
        ProblemError: 413, it is larger than the limit; 400, the client left in the middle.
    """
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(HTTPStatus.BAD_REQUEST, "The body ended early")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


def is_encoded(headers: Headers) -> bool:
    """Whether the client says that it has compressed the body."""
    return headers.get(b"content-encoding", b"identity").strip().lower() != b"identity"


def decode_body(body: bytes, headers: Headers, limit: int) -> bytes:
    """Decompress a body whose client says that it is gzip or deflate.

    Raises:
        ProblemError: 415, it is said to be something else; 413, it becomes larger than the
            limit; 422, it is not what it is said to be.
    """
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding not in {b"gzip", b"x-gzip", b"deflate"}:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding is {encoding.decode('latin-1')!r}; allowed: gzip, deflate, identity",
            headers={"Accept-Encoding": "gzip, deflate, identity"},
        )
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        decoded = stream.decompress(body, limit + 1)
    except zlib.error:
        decoded = b""
    if len(decoded) > limit:
        raise _too_large(limit)
    if not stream.eof or stream.unused_data:
        name = encoding.decode()
        raise unprocessable([FieldError("", f"the body is not complete {name}", None, name)])
    return decoded


def media_type(headers: Headers) -> str | None:
    """The type that the client says its body has, in lower case; None where it says nothing.

    Raises:
        ProblemError: 415, it is text in something other than UTF-8.
    """
    declared = headers.get(b"content-type")
    if declared is None:
        return None
    if declared == JSON_TYPE:
        return "application/json"
    kind, _, parameters = declared.decode("latin-1").lower().partition(";")
    encoding = parameters.partition("charset=")[2].partition(";")[0].strip(" '\"") or "utf-8"
    if encoding not in {"utf-8", "utf8", "us-ascii"}:
        raise unsupported_type(headers, "UTF-8")
    return kind.strip()


def require_json(headers: Headers) -> None:
    """Check that the body is said to be JSON; saying nothing is fine.

    Raises:
        ProblemError: 415, it is something other than JSON in UTF-8.
    """
    kind = media_type(headers)
    if kind is None or kind == "application/json":
        return
    if not (kind.startswith("application/") and kind.endswith("+json")):
        raise unsupported_type(headers, "application/json in UTF-8")


def unsupported_type(headers: Headers, allowed: str) -> ProblemError:
    """The answer 415."""
    declared = headers.get(b"content-type", b"").decode("latin-1")
    return ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"Content-Type is {declared!r}; allowed: {allowed}",
        headers={"Accept": "application/json"},
    )


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is too large; allowed are {limit} bytes (MLOPS_MAX_BODY_BYTES)",
        headers={"Connection": "close"},
    )
