"""HTTP/1.1 as the server speaks it: its fast path, and its edges.

The fast path gives the same answers as the ordinary path, in order, each request on its own.
"""

import json
import logging
import re
import socket
import time
from contextlib import suppress
from itertools import cycle
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from mlops_for_mle.serving import fast
from mlops_for_mle.serving.predict import answer, read_predict
from mlops_for_mle.serving.request import current_request
from tests.releases import HOUSE_CONTRACT, make_release
from tests.serving.conftest import IRIS_ROW, make_key, wait_until
from tests.serving.raw import ROW, Server, masked, parts_of, request, status_of

REQUESTS = {
    "one row": parts_of(),
    "rows": parts_of([IRIS_ROW, IRIS_ROW]),
    "columns": parts_of({"columns": {name: [1] for name in IRIS_ROW}}),
    "a request id": parts_of(X_Request_ID="order-17"),
    "an odd request id": parts_of(X_Request_ID="<script>"),
    "another type": parts_of(Content_Type="text/plain"),
    "no JSON": parts_of(b"{"),
    "wrong fields": parts_of({"sepal_length": "long", "colour": 1}),
    "another host": parts_of(Host="evil.example"),
    "a query": parts_of(path="/predict?x=1"),
    "compressed": parts_of(Content_Encoding="gzip"),
    "from a page": parts_of(Origin="https://evil.example"),
    "the last of its connection": parts_of(Connection="close"),
    "large": parts_of(ROW + b" " * 40_000),
}
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
LARGE = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = LIVE + b"Connection: close\r\n\r\n"
CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(ROW), ROW)
)


def is_cut(channel: socket.socket, content: bytes) -> bool:
    """Whether a client that sends something more finds that the server has ended the connection."""
    try:
        channel.sendall(content)
    except ConnectionError:
        return True
    return False


@pytest.fixture
def server(settings, iris):
    with Server(settings, iris) as listening:
        yield listening


@pytest.mark.parametrize("name", REQUESTS)
def test_what_arrives_whole_is_answered_as_what_arrives_in_parts(server, name):
    head, body = REQUESTS[name]

    (whole,), (parts,) = server.exchange(head + body), server.exchange(head, body)

    assert masked(whole) == masked(parts)


def test_requests_on_one_connection_are_answered_in_their_order(server):
    good, bad, other = request(), request(b"{}"), request(path="/explain")
    live = LIVE + b"\r\n"

    answers = server.exchange(good + live + bad + other + good + bad + live, answers=7)

    assert [status_of(one) for one in answers] == [200, 200, 422, 200, 200, 422, 200]
    assert b"live" in answers[1]
    assert b"prediction_id" in answers[0]
    assert b"prediction_id" not in answers[3]


def test_what_arrives_together_is_answered_and_recorded_each_for_itself(server, monkeypatch):
    rows = [{**IRIS_ROW, "petal_length": 1 + index / 4} for index in range(20)]
    together = []

    def noting(services: Any, questions: Any) -> Any:
        together.append(len(questions))
        return answer(services, questions)

    monkeypatch.setattr(fast, "answer", noting)

    answers = server.ask_in_one_turn(*map(request, rows))

    assert sum(together) == 20
    assert max(together) > 1
    documents = [json.loads(one.partition(b"\r\n\r\n")[2]) for one in answers]
    lines = {line[3]: json.loads(line[-2]) for line in server.kept()}
    assert lines == {one["prediction_id"]: row for one, row in zip(documents, rows, strict=True)}
    for row, document in zip(rows, documents, strict=True):
        alone = server.predict(row)
        assert document["iris_class"] == alone["iris_class"]
        assert document["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-6)


def test_no_row_is_predicted_by_the_release_of_another_that_came_with_it(
    server, iris_second, monkeypatch
):
    releases = cycle([server.services.releases.current, server.serve(iris_second)])
    together = []

    def reading(services: Any, asked: Any) -> Any:
        services.releases.current = next(releases)
        return read_predict(services, asked)

    def noting(services: Any, questions: Any) -> Any:
        together.append({question.served for question in questions})
        return answer(services, questions)

    monkeypatch.setattr(fast, "read_predict", reading)
    monkeypatch.setattr(fast, "answer", noting)
    server.ask_in_one_turn(*[request()] * 4)

    assert [len(one) for one in together] == [1] * 4


def test_what_is_wrong_with_one_request_is_not_the_fault_of_the_others(settings):
    rows = np.array([[1, 10], [2, 30], [4, 20.0]])
    model = Pipeline([("model", LinearRegression().fit(rows, rows @ [10, 20]))])
    areas = [100, 3e38, 120, "large", 140]

    requests = [request({"방 수": 3, "area m2": one}) for one in areas]

    with Server(settings, make_release(model, HOUSE_CONTRACT, rows)) as server:
        together = server.ask_in_one_turn(*requests)
        behind_each_other = server.exchange(b"".join(requests), answers=5)

    for answers in (together, behind_each_other):
        assert [status_of(one) for one in answers] == [200, 422, 200, 422, 200]
        assert b"no finite answer" in answers[1]
    lines = (json.loads(line[-2]) for line in server.kept())
    assert [one["area m2"] for one in lines] == [100, 120, 140] * 2


def test_a_failure_of_ours_is_logged_with_the_request_and_answered(server, caplog):
    object.__setattr__(server.services.releases.current, "predictor", None)
    answers = [*server.ask_in_one_turn(request(), request()), *server.exchange(*parts_of())]

    assert [status_of(one) for one in answers] == [500] * 3
    assert all(b"its log" in one and b"NoneType" not in one for one in answers)
    wait_until(lambda: sum(one.exc_info is not None for one in caplog.records) == 3)


def test_who_asks_before_the_body_is_told_to_go_on(server):
    with server.connect() as channel:
        for part, status in zip(parts_of(Expect="100-continue"), (100, 200), strict=True):
            channel.sendall(part)
            assert status_of(channel.recv(65536)) == status


def test_keys_are_asked_for_on_the_short_way_too(settings, iris):
    known, other = make_key(settings, "predict"), make_key(settings, "write", name="writer")

    with Server(settings, iris) as server:
        answers = server.ask_in_one_turn(
            request(**known), request(), request(**other), request(X_API_Key="guessed")
        )

    assert [status_of(one) for one in answers] == [200, 401, 403, 401]


@pytest.mark.parametrize("cut", [0, 200])
def test_a_request_that_would_rather_speak_another_protocol_is_answered_in_this_one(server, cut):
    headers = {"Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABk"}
    content = request(Upgrade="h2c", **headers)

    (answer,) = server.exchange(*filter(None, (content[:cut], content[cut:])))

    assert status_of(answer) == 200
    assert b"upgrade" not in answer.lower()


def test_many_requests_may_stand_behind_each_other_and_very_many_are_refused(server):
    polite = LIVE + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

    assert server.say(polite * 100 + LAST).count(b"HTTP/1.1 200 ") == 101
    answers = server.say(polite * 1_500 + LAST)
    assert answers.count(b"HTTP/1.1 200 ") <= 101
    assert b"HTTP/1.1 400 " in answers


@pytest.mark.parametrize(
    "content",
    [
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        request(path="http://localhost"),
        request().replace(b"Host: ", b"Host: evil.example\r\nHost: ", 1),
    ],
    ids=["a proxy's", "an address alone", "two hosts"],
)
def test_what_is_no_request_is_refused(server, content, caplog):
    for parts in ((content,), (content[:-5], content[-5:])):
        (answer,) = server.exchange(*parts)

        assert status_of(answer) == 400
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX-Endless: ", CHUNKED + b"X-Endless: "])
def test_a_head_without_end_is_refused(server, start):
    # A client that goes on sending may see a reset before it has read the answer.
    with suppress(ConnectionError):
        assert status_of(server.say(start + b"a" * 2_000_000)) == 400


def test_a_head_that_does_not_end_in_time_is_given_up(settings, iris, monkeypatch):
    monkeypatch.setattr(Server, "keep_alive_seconds", 0.3)

    with Server(settings, iris) as server, server.connect() as channel:
        channel.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")

        assert wait_until(lambda: is_cut(channel, b"a"))


def test_the_log_gives_no_request_the_id_of_the_one_before(server, caplog):
    named = []
    caplog.handler.addFilter(lambda record: named.append(current_request.get(None)) or True)

    server.exchange(request([IRIS_ROW]), b"\x00garbage\r\n\r\n", answers=2)

    assert named
    assert set(named) == {None}


def test_who_has_said_that_no_more_will_come_is_answered(server):
    with server.connect() as channel:
        # The server finds both when it looks again.
        server.loop.call_soon_threadsafe(time.sleep, 0.2)
        channel.sendall(request())
        channel.shutdown(socket.SHUT_WR)

        assert status_of(channel.makefile("rb").read()) == 200


def test_what_comes_behind_a_chunked_body_is_no_header(server):
    (answer,) = server.exchange(CHUNKED + b"Content-Encoding: gzip\r\n\r\n")

    assert status_of(answer) == 200


def test_who_never_reads_is_cut(server, monkeypatch):
    monkeypatch.setattr(fast, "_UNREAD_SECONDS", 0.2)

    with server.connect() as channel:
        # Until no more of these files fits into what lies between, and nothing more is read.
        assert wait_until(lambda: is_cut(channel, LARGE))


def test_a_new_connection_takes_the_place_of_an_idle_one_where_there_are_too_many(
    server, monkeypatch
):
    # A limit below what the process itself needs leaves some, too.
    monkeypatch.setattr("resource.getrlimit", lambda _: (20, 20))
    # The server finds them all when it looks again.
    server.loop.call_soon_threadsafe(time.sleep, 0.2)
    idle = [server.connect() for _ in range(8)]

    for _ in range(3):
        (answer,) = server.exchange(request())

        assert status_of(answer) == 200
        # Before those that are idle end by themselves.
        wait_until(lambda: len(server.state.connections) <= 5, timeout=30)
    for channel in idle:
        channel.close()


@pytest.mark.parametrize("path", ["/health/ready", "/page/main.js"])
def test_head_is_answered_as_get_without_the_body(server, path):
    closing = b"%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode()

    head, got = (server.say(b"%b %b" % (method, closing)) for method in (b"HEAD", b"GET"))

    length = rb"content-length: (\d+)"
    assert status_of(head) == status_of(got) == 200
    assert head.endswith(b"\r\n\r\n")
    assert re.search(length, head)[1] == re.search(length, got)[1]
