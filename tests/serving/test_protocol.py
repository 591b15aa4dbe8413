"""HTTP/1.1 at its edges: upgrades, heads without end, silence, garbage, clients that leave."""

import asyncio
import json
import logging
import re

import pytest

from mlops_for_mle.serving import fast
from mlops_for_mle.serving.logs import current_request
from tests.serving.conftest import IRIS_ROW
from tests.serving.raw import ROW, Server, request, status_of

H2C = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}


@pytest.fixture
def server(settings, iris) -> Server:
    return Server(settings, iris)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), 90)


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
@pytest.mark.parametrize("cut", [0, 200])
def test_a_request_that_would_rather_speak_another_protocol_is_answered_in_this_one(
    server, upgrade, cut
):
    content = b"".join(request(**(H2C | {"Upgrade": upgrade})))

    (answer,) = server.ask(*((content[:cut], content[cut:]) if cut else (content,)))

    assert status_of(answer) == 200
    assert b"upgrade" not in answer.lower()


def test_any_number_of_them_may_stand_behind_each_other(server):
    count = 1_500
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    polite = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % upgrade
    last = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    async def ask(server: Server) -> bytes:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(polite * count + last)
        return await until_closed(reader)

    assert server.run(ask).count(b"HTTP/1.1 200 ") == count + 1


def test_a_proxy_is_what_this_server_is_not(server):
    (answer,) = server.ask(b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n")

    assert status_of(answer) == 400


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX-Endless: "])
def test_a_head_without_end_is_refused(server, start):
    async def ask(server: Server) -> bytes:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(start)
        try:
            for _ in range(200):
                writer.write(b"a" * 10_000)
                await writer.drain()
        except ConnectionError:
            pass
        try:
            return await until_closed(reader)
        except ConnectionError:
            return b""

    answer = server.run(ask)

    # A client that goes on sending may see a reset before it has read the answer.
    assert not answer or status_of(answer) == 400


def test_a_head_that_does_not_end_in_time_is_given_up(server):
    server.keep_alive_seconds = 0.3

    async def ask(server: Server) -> int:
        reader, writer = await asyncio.open_connection(*server.address)
        for number, byte in enumerate(b"GET / HTTP/1.1\r\nX-Slow: " + b"a" * 200):
            if reader.at_eof():
                return number
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        raise AssertionError("the head was read to its end")

    assert server.run(ask) > 0


@pytest.mark.parametrize("count", [1, 3])
def test_valid_requests_are_answered_before_what_follows_them_is_refused(server, count):
    content = b"".join(request()) * count + b"\x00garbage\r\n\r\n"

    answers = server.ask(content, answers=count + 1)

    assert [status_of(one) for one in answers] == [200] * count + [400]


@pytest.mark.parametrize("body", [ROW, b"{}"])
def test_the_log_gives_no_request_the_id_of_the_one_before(server, body, caplog):
    named = []
    caplog.handler.addFilter(lambda record: named.append(current_request.get()) or True)

    server.ask(b"".join(request(body)) + b"\x00garbage\r\n\r\n", answers=2)

    assert named
    assert set(named) == {None}


@pytest.mark.parametrize("url", ["http://localhost", "http://localhost:999999/predict", "http://"])
@pytest.mark.parametrize("is_split", [False, True])
def test_a_url_that_is_none_is_refused(server, url, is_split, caplog):
    head, body = request(path=url)

    (answer,) = server.ask(*((head + body[:-5], body[-5:]) if is_split else (head + body,)))

    assert status_of(answer) == 400
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


def test_what_comes_behind_a_chunked_body_is_no_header(server):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    body = b"%x\r\n%b\r\n0\r\nContent-Encoding: gzip\r\n\r\n" % (len(ROW), ROW)

    (answer,) = server.ask(head + body)

    assert status_of(answer) == 200


def test_who_never_reads_is_cut(server, monkeypatch):
    monkeypatch.setattr(fast, "_UNREAD_SECONDS", 0.2)
    body = json.dumps([IRIS_ROW] * 300).encode()

    async def ask(server: Server) -> bool:
        _reader, writer = await asyncio.open_connection(*server.address, limit=1)
        writer.transport.pause_reading()
        for _ in range(200):
            writer.write(b"".join(request(body)))
        async with asyncio.timeout(90):
            while not server.lost:
                await asyncio.sleep(0.05)
        return True

    class Noting(fast.ServingProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            server.lost.append(self)
            super().connection_lost(exc)

    server.lost = []
    server.protocol_class = Noting
    assert server.run(ask)


def test_a_new_connection_takes_the_place_of_an_idle_one_where_there_are_too_many(
    server, monkeypatch
):
    monkeypatch.setattr(fast, "_most_connections", lambda: 5)

    async def ask(server: Server) -> list[bytes]:
        idle = [await asyncio.open_connection(*server.address) for _ in range(8)]
        found = [await server.exchange(b"".join(request())) for _ in range(3)]
        for _, writer in idle:
            writer.close()
        return [one for (one,) in found]

    assert [status_of(one) for one in server.run(ask)] == [200] * 3


def test_two_hosts_are_a_bad_request(server):
    content = b"".join(request()).replace(b"Host: ", b"Host: evil.example\r\nHost: ", 1)

    (answer,) = server.ask(content)

    assert status_of(answer) == 400


def test_head_is_answered_as_get_without_the_body(server):
    async def ask(server: Server) -> dict[bytes, list[bytes]]:
        found = {}
        for path in (b"/health/ready", b"/model", b"/openapi.json", b"/", b"/page/main.js", b"/v2"):
            found[path] = []
            for method in (b"HEAD", b"GET"):
                reader, writer = await asyncio.open_connection(*server.address)
                closing = b"Host: localhost\r\nConnection: close"
                writer.write(b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (method, path, closing))
                found[path].append(await until_closed(reader))
        return found

    length = rb"content-length: (\d+)"
    for path, (head, got) in server.run(ask).items():
        assert status_of(head) == status_of(got) == 200, path
        assert head.endswith(b"\r\n\r\n")
        assert re.search(length, head)[1] == re.search(length, got)[1]
