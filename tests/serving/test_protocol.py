"""HTTP/1.1 at its edges: upgrades, heads without end, silence, garbage, clients that leave."""

import asyncio
import logging
import re
from contextlib import suppress

import pytest

from mlops_for_mle.serving import fast
from mlops_for_mle.serving.request import current_request
from tests.serving.conftest import IRIS_ROW
from tests.serving.raw import ROW, Server, request, status_of

LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
LAST = LIVE + b"Connection: close\r\n\r\n"


@pytest.fixture
def server(settings, iris) -> Server:
    return Server(settings, iris)


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
@pytest.mark.parametrize("cut", [0, 200])
def test_a_request_that_would_rather_speak_another_protocol_is_answered_in_this_one(
    server, upgrade, cut
):
    headers = {"Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABk"}
    content = request(Upgrade=upgrade, **headers)

    (answer,) = server.ask(*filter(None, (content[:cut], content[cut:])))

    assert status_of(answer) == 200
    assert b"upgrade" not in answer.lower()


def test_any_number_of_them_may_stand_behind_each_other(server):
    polite = LIVE + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

    answers = server.run(lambda: server.say(polite * 1_500 + LAST))

    assert answers.count(b"HTTP/1.1 200 ") == 1_501


@pytest.mark.parametrize(
    "content",
    [
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        request(path="http://localhost"),
        request(path="http://localhost:999999/predict"),
        request(path="http://"),
        request().replace(b"Host: ", b"Host: evil.example\r\nHost: ", 1),
    ],
    ids=["a proxy's", "an address alone", "a port that is none", "half a URL", "two hosts"],
)
def test_what_is_no_request_is_refused(server, content, caplog):
    for parts in ((content,), (content[:-5], content[-5:])):
        (answer,) = server.ask(*parts)

        assert status_of(answer) == 400
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX-Endless: "])
def test_a_head_without_end_is_refused(server, start):
    # A client that goes on sending may see a reset before it has read the answer.
    answer = b""

    async def ask() -> None:
        nonlocal answer
        with suppress(ConnectionError):
            answer = await server.say(start + b"a" * 2_000_000)

    server.run(ask)

    assert not answer or status_of(answer) == 400


def test_a_head_that_does_not_end_in_time_is_given_up(server):
    server.keep_alive_seconds = 0.3

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
        ended = asyncio.ensure_future(reader.read())
        async with asyncio.timeout(30):
            while not ended.done():
                writer.write(b"a")
                await asyncio.sleep(0.02)
        # It may see a reset, which stands for the end, too.
        with suppress(ConnectionError):
            assert await ended == b""

    server.run(ask)


@pytest.mark.parametrize("count", [1, 3])
def test_valid_requests_are_answered_before_what_follows_them_is_refused(server, count):
    answers = server.ask(request() * count + b"\x00garbage\r\n\r\n", answers=count + 1)

    assert [status_of(one) for one in answers] == [200] * count + [400]


@pytest.mark.parametrize("body", [ROW, b"{}"])
def test_the_log_gives_no_request_the_id_of_the_one_before(server, body, caplog):
    named = []
    caplog.handler.addFilter(lambda record: named.append(current_request.get(None)) or True)

    server.ask(request(body) + b"\x00garbage\r\n\r\n", answers=2)

    assert named
    assert set(named) == {None}


def test_what_comes_behind_a_chunked_body_is_no_header(server):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    body = b"%x\r\n%b\r\n0\r\nContent-Encoding: gzip\r\n\r\n" % (len(ROW), ROW)

    (answer,) = server.ask(head + body)

    assert status_of(answer) == 200


def test_who_never_reads_is_cut(server, monkeypatch):
    monkeypatch.setattr(fast, "_UNREAD_SECONDS", 0.2)
    lost = []

    class Noting(fast.ServingProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(self)
            super().connection_lost(exc)

    async def ask() -> None:
        _reader, writer = await asyncio.open_connection(*server.address, limit=1)
        writer.transport.pause_reading()
        for _ in range(200):
            writer.write(request([IRIS_ROW] * 300))
        async with asyncio.timeout(90):
            while not lost:
                await asyncio.sleep(0.05)

    server.protocol_class = Noting
    server.run(ask)

    assert lost


def test_a_new_connection_takes_the_place_of_an_idle_one_where_there_are_too_many(
    server, monkeypatch
):
    monkeypatch.setattr(fast, "_most_connections", lambda: 5)

    async def ask() -> list[bytes]:
        idle = [await asyncio.open_connection(*server.address) for _ in range(8)]
        found = [await server.exchange(request()) for _ in range(3)]
        assert len(server.state.connections) <= 5
        for _, writer in idle:
            writer.close()
        return [one for (one,) in found]

    assert [status_of(one) for one in server.run(ask)] == [200] * 3


@pytest.mark.parametrize(
    "path", ["/health/ready", "/model", "/openapi.json", "/", "/page/main.js", "/v2"]
)
def test_head_is_answered_as_get_without_the_body(server, path):
    async def ask() -> list[bytes]:
        closing = b"%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode()
        return [await server.say(b"%b %b" % (method, closing)) for method in (b"HEAD", b"GET")]

    head, got = server.run(ask)

    length = rb"content-length: (\d+)"
    assert status_of(head) == status_of(got) == 200
    assert head.endswith(b"\r\n\r\n")
    assert re.search(length, head)[1] == re.search(length, got)[1]
