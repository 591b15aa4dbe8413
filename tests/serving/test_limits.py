"""What bounds a request, and that no body makes the server fail."""

import asyncio
import gc
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from benchmarks.serving.checks import wrong_request

from mlops_for_mle.releases.predictor import Predictions
from mlops_for_mle.serving import context, mlflow, oip, predict
from mlops_for_mle.serving.codec import MAX_ROWS
from mlops_for_mle.serving.database import Pool
from mlops_for_mle.serving.predict import Answers, answer
from mlops_for_mle.serving.request import Request, current_request
from tests.releases import trained_iris_release
from tests.serving.conftest import IRIS_ROW, Client, error_paths, peak_of, wait_until
from tests.serving.raw import Server, request

INFER = "/v2/models/iris/infer"
PATHS = ("/predict", "/invocations", INFER)
LARGE_ROWS = [IRIS_ROW] * 2000
JSON = {"content-type": "application/json"}


class SlowPredictor:
    """The real predictor of what is served, which takes its time until it is told to hurry."""

    def __init__(self, client: Client) -> None:
        served = client.services.releases.current
        self._predictor = served.predictor
        self.begun = self.done = 0
        self.hurry = threading.Event()
        object.__setattr__(served, "predictor", self)

    def predict(self, rows: np.ndarray) -> Predictions:
        self.asked_by = current_request.get()
        self.begun += 1
        self.hurry.wait(60)
        found = self._predictor.predict(rows)
        self.done += 1
        return found


async def unfinished(is_over: threading.Event):
    """A body whose end is late."""
    yield b"{"
    while not is_over.is_set():
        await asyncio.sleep(0.01)


def retold(answer: httpx.Response) -> str:
    """The sentence of an error, in the words of whatever protocol."""
    body = answer.json()
    return str(body.get("detail") or body.get("message") or body.get("error"))


def test_one_request_too_many_is_answered_with_429_and_the_place_is_free_again(settings, iris):
    client, is_over = Client(settings, iris, max_concurrency=2), threading.Event()
    slow = SlowPredictor(client)

    def begin() -> httpx.Response:
        return client.post("/predict", content=unfinished(is_over), headers=JSON)

    with ThreadPoolExecutor() as threads:
        # Bodies that are still to come take nobody's place.
        waiting = [threads.submit(begin) for _ in range(3)]
        busy = [threads.submit(client.post, "/predict", json=LARGE_ROWS) for _ in range(2)]
        wait_until(lambda: slow.begun == 2)
        for path in PATHS:
            refused = client.post(path, json=IRIS_ROW)
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            assert "MLOPS_MAX_CONCURRENCY" in retold(refused)
        assert client.get("/model").status_code == 429
        # What strangers may read takes no place either, however slowly they do.
        for path in ("/health/live", "/docs/swagger-ui-bundle.js"):
            assert client.get(path).status_code == 200
        slow.hurry.set()
        assert [one.result().status_code for one in busy] == [200, 200]
        assert client.post("/predict", json=IRIS_ROW).status_code == 200
        is_over.set()
        assert [one.result().status_code for one in waiting] == [422] * 3


def test_requests_that_arrive_in_one_turn_of_the_event_loop_are_counted_too():
    is_over = threading.Event()
    endpoint = Pool("turn", max_concurrency=8).endpoint(is_over.wait)

    async def turn() -> list[Any]:
        current_request.set(Request("GET", "/", {}, None, time.perf_counter(), "turn"))
        asyncio.get_running_loop().call_later(0.1, is_over.set)
        return await asyncio.gather(*(endpoint(60) for _ in range(5)), return_exceptions=True)

    first, second, *others = asyncio.run(turn())
    assert (first, second) == (True, True)
    assert [other.status for other in others] == [429] * 3


def test_what_may_be_long_is_neither_read_nor_made_in_the_event_loop(client, monkeypatch):
    threads: list[threading.Thread] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any, **options: Any) -> Any:
            threads.append(threading.current_thread())
            return function(*given, **options)

        return noted

    monkeypatch.setattr(context, "plain", noting(context.plain))
    monkeypatch.setattr(Answers, "_rows", noting(Answers._rows))

    for path in ("/feedback", "/observations"):
        error_paths(client.post(path, json={"other": 1}))
    assert len(threads) == 2
    client.predict(LARGE_ROWS)
    assert len(threads) > 2
    assert threading.current_thread() not in threads


FIELDS = b"{" + b",".join(b'"%d":0' % number for number in range(300_000)) + b"}"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/feedback", FIELDS),
        ("/observations", FIELDS),
        ("/predict", b'{"columns": ' + FIELDS + b"}"),
        ("/invocations", b'{"inputs": ' + FIELDS + b"}"),
        ("/predict", b'{"columns": {"sepal_length": [' + b"[]," * 300_000 + b"1]}}"),
        ("/predict", b"[" + (json.dumps(IRIS_ROW).encode() + b",") * 13_000 + b"{}]"),
        ("/predict", b"[" + b"NaN," * 250_000 + b"NaN]"),
        ("/predict", b'[NaN,"' + b'\\"' * 250_000),
        ("/invocations", b'{"instances": [' + b"{}," * 300_000 + b"{}]}"),
        ("/invocations", b'{"dataframe_split": {"columns": ["a"], "data": [' + b"[]," * 300_000),
    ],
    ids=lambda one: one if isinstance(one, str) else one[:40].decode(),
)
def test_a_large_body_of_faults_is_answered_shortly_and_in_little_memory(client, path, body):
    answer, peak = peak_of(lambda: client.post(path, content=body, headers=JSON))

    assert answer.status_code == (400 if path == "/invocations" else 422)
    assert len(answer.content) < 20_000
    assert peak < 8 * len(body)


ONES = {name: [1] * MAX_ROWS for name in IRIS_ROW}
TENSOR = {"name": "features", "shape": [MAX_ROWS, 4], "datatype": "FP64"}


@pytest.mark.parametrize(
    ("path", "read", "document"),
    [
        ("/predict", predict.read_predict, {"columns": ONES}),
        ("/predict", predict.read_predict, [dict.fromkeys(IRIS_ROW, 1)] * 30_000),
        ("/invocations", mlflow.read, {"inputs": ONES}),
        (
            "/invocations",
            mlflow.read,
            {"dataframe_split": {"columns": [*ONES], "data": [[1] * 4] * 30_000}},
        ),
        (INFER, oip.read, {"inputs": [TENSOR | {"data": [1] * 4 * MAX_ROWS}]}),
    ],
    ids=["columns", "rows", "MLflow's columns", "MLflow's table", "a tensor"],
)
def test_many_short_rows_take_less_than_eight_times_their_memory(settings, path, read, document):
    services = Client(settings, trained_iris_release()).services
    body = json.dumps(document, separators=(",", ":")).encode()
    headers = {b"content-type": b"application/json"}
    asked = Request("POST", path, headers, None, time.perf_counter(), "large", body)

    def whole() -> int:
        (found,) = answer(services, [read(services, asked)])
        return sum(map(len, found.parts))

    _, peak = peak_of(whole)

    assert peak < 8 * len(body)


def test_what_takes_too_long_is_answered_with_504_and_not_recorded(settings, iris):
    client = Client(settings, iris, request_timeout_seconds=0.3)
    slow = SlowPredictor(client)

    answer = client.post("/predict", json=LARGE_ROWS)

    assert not slow.done, "the event loop was blocked"
    assert answer.status_code == 504
    assert "MLOPS_REQUEST_TIMEOUT_SECONDS" in retold(answer)
    slow.hurry.set()
    client.services.threads.shutdown()
    assert slow.done == 1
    assert not client.kept()


def test_a_large_answer_may_be_read_for_longer_than_a_request_may_take(settings, iris):
    labels = {"route": "/predict", "method": "POST", "status": "200"}
    name = "mlops_request_duration_seconds_count"
    with Server(settings, iris, request_timeout_seconds=2) as server:
        with server.connect() as channel:
            channel.sendall(request(LARGE_ROWS * 30))
            answer = HTTPResponse(channel)
            answer.begin()
            time.sleep(2.2)
            rows = json.load(answer)
        metrics = server.services.metrics.registry
        wait_until(lambda: metrics.get_sample_value(name, labels) == 1)

    assert answer.status == 200
    assert len(rows) == 60_000


def test_a_large_answer_to_an_old_client_is_sent_whole(settings, iris):
    with Server(settings, iris) as server:
        head, body = server.say(request(LARGE_ROWS * 3).replace(b"HTTP/1.1", b"HTTP/1.0", 1)).split(
            b"\r\n\r\n"
        )

    assert b"content-length: %d\r\n" % len(body) in head
    assert b"transfer-encoding" not in head
    assert len(json.loads(body)) == 6_000


def test_for_a_client_that_has_left_nobody_works_on(settings, iris, caplog):
    with Server(settings, iris) as server:
        slow = SlowPredictor(server)
        with server.connect() as channel:
            channel.sendall(request(LARGE_ROWS))
            wait_until(lambda: slow.begun)
            assert not slow.asked_by.is_cancelled
        wait_until(lambda: slow.asked_by.is_cancelled)
        # What fails then is nobody's, not an error of ours either.
        server.services.log.max_bytes = 0
        slow.hurry.set()
        server.services.threads.shutdown()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), server.loop).result()
        gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_late_large_or_of_another_kind_is_refused(settings, iris, path):
    client = Client(settings, iris, max_body_bytes=2000, request_timeout_seconds=0.2)

    for status, told, content, headers in (
        (408, "MLOPS_REQUEST_TIMEOUT_SECONDS", unfinished(threading.Event()), {}),
        (413, "MLOPS_MAX_BODY_BYTES", b" " * 2001, {}),
        (415, "text/html", b"{}", {"content-type": "text/html"}),
        (415, "gzip", b"{}", {"content-encoding": "gzip"}),
    ):
        answer = client.post(path, content=content, headers=JSON | headers)

        assert answer.status_code == status
        assert told in retold(answer)
        assert answer.headers.get("connection") == ("close" if status in {408, 413} else None)


def test_no_body_makes_the_server_fail(settings, iris):
    statuses: Counter[tuple[str, int]] = Counter()
    chance, model = random.Random(7), SimpleNamespace(contract="iris", rows=[IRIS_ROW])

    with Server(settings, iris) as server, httpx.Client(base_url=server.url, timeout=60) as asking:
        for _ in range(1000):
            path, body, given = wrong_request(chance, model)
            headers = {name: value.encode("latin-1") for name, value in given.items()}
            answer = asking.post(path, content=body, headers=headers)
            assert answer.status_code < 500, (path, headers, body, answer.text)
            assert answer.status_code == 200 or retold(answer), (path, headers, body)
            statuses[path, answer.status_code] += 1

    for path, wrong in (("/predict", 422), ("/invocations", 400), (INFER, 400)):
        assert statuses[path, 200] > 10, statuses
        assert statuses[path, wrong] > 100, statuses
        assert statuses[path, 415] > 10, statuses
    answered = sum(count for (_, status), count in statuses.items() if status == 200)
    assert len(server.kept()) == answered


@pytest.mark.parametrize("path", ["/observations", "/feedback"])
def test_what_is_nested_as_deep_as_json_is_read_is_refused_in_words(client, path):
    for levels in range(900, 1000):
        nested = "[" * levels + "]" * levels
        body = f'{{"sepal_length": {nested}, "prediction_id": {nested}}}'.encode()

        answer = client.post(path, content=body, headers=JSON)

        assert answer.status_code == 422, levels
