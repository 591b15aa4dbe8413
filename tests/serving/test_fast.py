"""The short way: the same answers as the ordinary way, in order, each request on its own."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from mlops_for_mle.serving.context import RequestContext
from tests.releases import HOUSE_CONTRACT, make_release
from tests.serving.conftest import IRIS_ROW, make_key
from tests.serving.raw import ROW, Server, masked, parts_of, request, status_of

INFER = "/v2/models/iris/infer"
MATRIX = {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": [6.7, 3.3, 5.7, 2.1]}
TENSOR: dict[str, Any] = {"inputs": [MATRIX]}
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
    "invocations": parts_of({"instances": [IRIS_ROW]}, "/invocations"),
    "csv": parts_of(b"a,b\n1,2\n", "/invocations", Content_Type="text/csv"),
    "inference": parts_of(TENSOR, INFER),
    "binary inference": parts_of(TENSOR | {"parameters": {"binary_data_output": True}}, INFER),
    "another model": parts_of(TENSOR, "/v2/models/nothing/infer"),
    "a query": parts_of(path="/predict?x=1"),
    "an escaped path": parts_of(path="/%70redict"),
}


@pytest.fixture
def server(settings, iris) -> Server:
    return Server(settings, iris)


@pytest.mark.parametrize("name", REQUESTS)
def test_what_arrives_whole_is_answered_as_what_arrives_in_parts(server, name):
    head, body = REQUESTS[name]

    (whole,), (parts,) = server.ask(head + body), server.ask(head, body)

    assert masked(whole) == masked(parts)


CHUNKED = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "content",
    [
        request(Content_Encoding="gzip"),
        CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ROW), ROW),
        request(Expect="100-continue"),
        request(Connection="close"),
        request(ROW + b" " * 40_000),
    ],
    ids=["compressed", "chunked", "asks first", "the last of its connection", "large"],
)
def test_everything_else_goes_the_ordinary_way(server, content, caplog, monkeypatch):
    async def refuse(scope, receive, send):
        raise AssertionError("the ordinary way")

    monkeypatch.setattr(RequestContext, "__call__", staticmethod(refuse))

    assert status_of(server.run(lambda: server.say(content))) == 500
    assert any("ordinary way" in str(one.exc_info[1]) for one in caplog.records)


def test_requests_on_one_connection_are_answered_in_their_order(server):
    good, bad, other = request(), request(b"{}"), request(path="/explain")
    live = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

    answers = server.ask(good + live + bad + other + good + bad + live, answers=7)

    assert [status_of(one) for one in answers] == [200, 200, 422, 200, 200, 422, 200]
    assert b"live" in answers[1]
    assert b"prediction_id" in answers[0]
    assert b"prediction_id" not in answers[3]


def test_what_arrives_together_is_answered_and_recorded_each_for_itself(server):
    rows = [{**IRIS_ROW, "petal_length": 1 + index / 4} for index in range(20)]

    answers = server.ask_in_one_turn(*map(request, rows))

    served = server.services.releases.current
    documents = [json.loads(one.partition(b"\r\n\r\n")[2]) for one in answers]
    for row, document in zip(rows, documents, strict=True):
        read = served.codec.read(json.dumps(row).encode())
        alone = served.predictor.predict(served.codec.matrix(read))
        assert document["iris_class"] == alone.values.item()
        probabilities = list(document["probabilities"].values())
        assert probabilities == pytest.approx(alone.probabilities[0].tolist(), abs=1e-6)
    lines = {line[3]: json.loads(line[-2]) for line in server.kept()}
    assert lines == {one["prediction_id"]: row for one, row in zip(documents, rows, strict=True)}


def test_what_is_wrong_with_one_request_is_not_the_fault_of_the_others(settings):
    rows = np.array([[1, 10], [2, 30], [4, 20.0]])
    model = Pipeline([("model", LinearRegression().fit(rows, rows @ [10, 20]))])
    server = Server(settings, make_release(model, HOUSE_CONTRACT, rows))
    areas = [100, 3e38, 120, "large", 140]

    answers = server.ask_in_one_turn(*(request({"방 수": 3, "area m2": one}) for one in areas))

    assert [status_of(one) for one in answers] == [200, 422, 200, 422, 200]
    assert b"no finite answer" in answers[1]
    lines = (json.loads(line[-2]) for line in server.kept())
    assert [one["area m2"] for one in lines] == [100, 120, 140]


def test_a_failure_of_ours_is_logged_with_the_request_and_answered(server, caplog):
    object.__setattr__(server.services.releases.current, "predictor", None)
    answers = server.ask_in_one_turn(request(), request())

    assert [status_of(one) for one in answers] == [500, 500]
    assert all(b"its log" in one for one in answers)
    assert sum(one.exc_info is not None for one in caplog.records) == 2


def test_a_full_log_refuses_all_that_arrived_together_and_counts_each(settings, iris):
    server = Server(settings, iris, spool_max_bytes=100)

    answers = server.ask_in_one_turn(*[request()] * 3)

    assert [status_of(one) for one in answers] == [503] * 3
    assert server.counted("spool_refused_total") == 3
    assert not server.kept()


def test_keys_are_asked_for_on_the_short_way_too(settings, iris):
    known, other = make_key(settings, "predict"), make_key(settings, "write", name="writer")
    server = Server(settings, iris)

    answers = server.ask_in_one_turn(
        request(**known), request(), request(**other), request(X_API_Key="guessed")
    )

    assert [status_of(one) for one in answers] == [200, 401, 403, 401]
