"""Requests and answers without a framework in between: what the hot routes and the guards need."""

import json
from typing import NamedTuple

from starlette.types import Message, Send

from mlops_for_mle.serving.http.bodies import Headers
from mlops_for_mle.serving.http.problems import PROBLEM_TYPE, ProblemError


class HotRequest(NamedTuple):
    """What a hot route knows of a request.

    Attributes:
        path: The path, decoded.
        body: The whole body, decompressed.
        headers: The last value of each header, by its name in lower case.
        started: ``time.perf_counter()`` at its arrival.
    """

    path: str
    body: bytes
    headers: Headers
    started: float

    @property
    def request_id(self) -> str | None:
        """The client's name for the request."""
        given = self.headers.get(b"x-request-id")
        return given.decode("latin-1") if given is not None else None


class HotAnswer(NamedTuple):
    """What a hot route answers."""

    body: bytes
    content_type: bytes = b"application/json"
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


def problem_answer(problem: ProblemError) -> HotAnswer:
    """A problem as a problem document (RFC 9457)."""
    return HotAnswer(
        json_bytes(problem.document()),
        PROBLEM_TYPE.encode(),
        problem.status,
        header_pairs(problem),
    )


def json_bytes(document: object) -> bytes:
    """JSON of what may repeat a client's text, which may be no Unicode."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def header_pairs(problem: ProblemError) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a problem, their names in lower case."""
    return tuple((name.lower().encode(), value.encode()) for name, value in problem.headers.items())


async def send_answer(send: Send, answer: HotAnswer) -> None:
    """Send an answer with its length and type."""
    start: Message = {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [
            (b"content-length", b"%d" % len(answer.body)),
            (b"content-type", answer.content_type),
            *answer.headers,
        ],
    }
    await send(start)
    await send({"type": "http.response.body", "body": answer.body})
