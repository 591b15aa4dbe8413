"""The short way: the same answers as the ordinary way, in order, each request on its own."""

import asyncio
import json

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from mlops_for_mle.serving.context import RequestContext
from mlops_for_mle.serving.keys import KeyFile
from tests.releases import HOUSE_CONTRACT, make_release
from tests.serving.conftest import IRIS_ROW, counted, kept
from tests.serving.raw import (
    ROW,
    OrdinaryWayError,
    Server,
    ask_in_one_turn,
    masked,
    refuse_the_ordinary_way,
    request,
    status_of,
)

ROWS = json.dumps([IRIS_ROW, IRIS_ROW]).encode()
TENSOR = {
    "inputs": [
        {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": [6.7, 3.3, 5.7, 2.1]}
    ]
}


@pytest.fixture
def server(settings, iris) -> Server:
    return Server(settings, iris)


REQUESTS = {
    "one row": request(),
    "rows": request(ROWS),
    "columns": request(b'{"columns": {"sepal_length": [1], "sepal_width": [1], '
                       b'"petal_length": [1], "petal_width": [1]}}'),
    "a request id": request(X_Request_ID="order-17"),
    "an odd request id": request(X_Request_ID="<script>"),
    "another type": request(Content_Type="text/plain"),
    "no JSON": request(b"{"),
    "wrong fields": request(b'{"sepal_length": "long", "colour": 1}'),
    "another host": request(Host="evil.example"),
    "invocations": request(json.dumps({"instances": [IRIS_ROW]}).encode(), "/invocations"),
    "csv": request(b"a,b\n1,2\n", "/invocations", Content_Type="text/csv"),
    "inference": request(json.dumps(TENSOR).encode(), "/v2/models/iris/infer"),
    "binary inference": request(
        json.dumps(TENSOR | {"parameters": {"binary_data_output": True}}).encode(),
        "/v2/models/iris/infer",
    ),
    "another model": request(json.dumps(TENSOR).encode(), "/v2/models/nothing/infer"),
    "a preview": request(path="/predict/preview"),
    "a query": request(path="/predict?x=1"),
    "an escaped path": request(path="/%70redict"),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_what_arrives_whole_is_answered_as_what_arrives_in_parts(server, name):
    head, body = REQUESTS[name]

    async def ask(server: Server) -> tuple[list[bytes], list[bytes]]:
        return await server.exchange(head + body), await server.exchange(head, body or b"")

    (whole,), (parts,) = server.run(ask)

    assert masked(whole) == masked(parts)


@pytest.mark.parametrize(
    ("name", "head_and_body"),
    {
        "compressed": request(Content_Encoding="gzip"),
        "chunked": (
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(ROW), ROW),
        ),
        "asks first": request(Expect="100-continue"),
        "the last of its connection": request(Connection="close"),
        "large": request(ROW + b" " * 40_000),
    }.items(),
)
def test_everything_else_goes_the_ordinary_way(server, name, head_and_body, caplog, monkeypatch):
    monkeypatch.setattr(RequestContext, "__call__", staticmethod(refuse_the_ordinary_way))

    async def ask(server: Server) -> list[bytes]:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"".join(head_and_body))
        return [await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)]

    (answer,) = server.run(ask)

    assert status_of(answer) == 500
    assert any(isinstance(one.exc_info[1], OrdinaryWayError) for one in caplog.records)


def test_requests_on_one_connection_are_answered_in_their_order(server):
    good, bad = b"".join(request()), b"".join(request(b"{}"))
    live = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    other = b"".join(request(path="/predict/preview"))

    async def ask(server: Server) -> list[bytes]:
        return await server.exchange(good + live + bad + other + good + bad + live, answers=7)

    answers = server.run(ask)

    assert [status_of(one) for one in answers] == [200, 200, 422, 200, 200, 422, 200]
    assert b"live" in answers[1]
    assert b"prediction_id" in answers[0]
    assert b"prediction_id" not in answers[3]


def test_what_arrives_together_is_answered_and_recorded_each_for_itself(settings, iris):
    server = Server(settings, iris)
    rows = [{**IRIS_ROW, "petal_length": 1 + index / 4} for index in range(20)]

    answers = ask_in_one_turn(
        server, *(b"".join(request(json.dumps(row).encode())) for row in rows)
    )

    served = server.services.releases.current
    documents = [json.loads(one.partition(b"\r\n\r\n")[2]) for one in answers]
    for row, document in zip(rows, documents, strict=True):
        read = served.codec.read(json.dumps(row).encode())
        alone = served.predictor.predict(served.codec.matrix([read]))
        assert document["iris_class"] == alone.values.item()
        probabilities = list(document["probabilities"].values())
        assert probabilities == pytest.approx(alone.probabilities[0].tolist(), abs=1e-6)
    lines = {line[3]: json.loads(line[-2]) for line in kept(server.services)}
    assert lines == {one["prediction_id"]: row for one, row in zip(documents, rows, strict=True)}


def test_what_is_wrong_with_one_request_is_not_the_fault_of_the_others(settings):
    rows = np.array([[1, 10], [2, 30], [4, 20.0]])
    model = Pipeline([("model", LinearRegression().fit(rows, rows @ [10, 20]))])
    server = Server(settings, make_release(model, HOUSE_CONTRACT, rows))
    areas = [100, 3e38, 120, "large", 140]

    answers = ask_in_one_turn(
        server,
        *(b"".join(request(json.dumps({"방 수": 3, "area m2": one}).encode())) for one in areas),
    )

    assert [status_of(one) for one in answers] == [200, 422, 200, 422, 200]
    assert b"no finite answer" in answers[1]
    lines = (json.loads(line[-2]) for line in kept(server.services))
    assert [one["area m2"] for one in lines] == [100, 120, 140]


def test_a_failure_of_ours_is_logged_with_the_request_and_answered(server, caplog):
    object.__setattr__(server.services.releases.current, "predictor", None)
    answers = ask_in_one_turn(server, *[b"".join(request())] * 2)

    assert [status_of(one) for one in answers] == [500, 500]
    assert all(b"its log" in one for one in answers)
    assert sum(one.exc_info is not None for one in caplog.records) == 2


def test_a_full_log_refuses_all_that_arrived_together_and_counts_each(settings, iris):
    server = Server(settings.model_copy(update={"spool_max_bytes": 100}), iris)

    answers = ask_in_one_turn(server, *[b"".join(request())] * 3)

    assert [status_of(one) for one in answers] == [503] * 3
    assert counted(server.services, "spool_refused_total") == 3
    assert not kept(server.services)


def test_keys_are_asked_for_on_the_short_way_too(settings, iris):
    key = KeyFile(settings.api_keys_file).create("application", ["predict"])
    other = KeyFile(settings.api_keys_file).create("writer", ["write"])
    server = Server(settings, iris)

    answers = ask_in_one_turn(
        server,
        b"".join(request(Authorization=f"Bearer {key}")),
        b"".join(request()),
        b"".join(request(X_API_Key=other)),
        b"".join(request(X_API_Key="guessed")),
    )

    assert [status_of(one) for one in answers] == [200, 401, 403, 401]
