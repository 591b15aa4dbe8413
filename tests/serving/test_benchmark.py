"""The parts of ``benchmarks/serving`` on which its numbers rest."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from benchmarks.serving import bodies, keep_alive_client
from benchmarks.serving.bodies import BodySize, Form, make_rows
from benchmarks.serving.memory import growth_of
from benchmarks.serving.ratios import judge, summarise
from benchmarks.serving.rounds import Measurement
from benchmarks.serving.servers import NOOP, OURS, SERVERS

from mlops_for_mle.release import Release
from mlops_for_mle.serving.services import build_services
from tests.serving.conftest import serve
from tests.serving.requests import call

ASKED = {
    "object": (bodies.OBJECT, "/predict", 1),
    "objects": (bodies.OBJECTS, "/predict", 50),
    "columns": (bodies.COLUMNS, "/predict", 50),
    "dataframe_split": (bodies.MLFLOW_SPLIT, "/invocations", 50),
    "inputs": (bodies.MLFLOW_COLUMNS, "/invocations", 50),
    "tensor": (bodies.TENSOR, "/v2/models/iris/infer", 50),
}


@pytest.mark.parametrize(("form", "path", "count"), ASKED.values(), ids=ASKED)
def test_a_body_holds_the_rows_and_its_answer_is_understood(
    settings, iris: Release, form: Form, path: str, count: int
) -> None:
    services = build_services(settings)
    served = serve(iris)
    services.slot.serve(served)
    rows = make_rows(count)
    answer = call(
        services,
        "POST",
        path,
        content=form.body(rows),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    one_by_one = [
        bodies.OBJECT.answer(
            call(
                services,
                "POST",
                "/predict",
                content=bodies.OBJECT.body([row]),
                headers={"content-type": "application/json"},
            ).content
        )[0]
        for row in rows
    ]
    assert form.answer(answer.content) == one_by_one
    assert count == 1 or len(set(one_by_one)) == 3


def test_rows_are_always_the_same() -> None:
    assert make_rows(3) == make_rows(10)[:3]


@pytest.mark.parametrize("text", ["", "0", "c", "10x", "-1", "1,2", "1000000"])
def test_what_is_no_size_of_a_body_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a number of rows"):
        BodySize.parse(text)


def test_the_size_of_a_body_is_read_as_it_is_written() -> None:
    for text in ("1", "10000", "10000c"):
        assert str(BodySize.parse(text)) == text


def test_names_of_servers_are_unique() -> None:
    names = [server.name for server in SERVERS]
    assert len(set(names)) == len(names)


class Handler(BaseHTTPRequestHandler):
    """Answers in two ways; every fourth request is refused where the path says so."""

    protocol_version = "HTTP/1.1"
    counter = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).counter += 1
        is_refused = self.path == "/refuse" and type(self).counter % 4 == 0
        self.send_response(503 if is_refused else 200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
            self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    Handler.counter = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["/plain", "/chunked"])
@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "large"])
def test_the_client_sends_as_many_requests_as_it_is_told(
    address: str, path: str, size: int
) -> None:
    found = keep_alive_client.run(address + path, b"x" * size, 4, 60.0, 20)
    assert (found.requests, found.errors, Handler.counter) == (20, 0, 20)
    assert 0 < found.median_ms <= found.p99_ms
    assert found.seconds > 0


def test_the_client_waits_for_every_answer_when_the_time_is_over(address: str) -> None:
    found = keep_alive_client.run(f"{address}/plain", b"x", 4, 0.2, 1_000_000)
    assert found.requests == Handler.counter > 4
    assert found.errors == 0


def test_the_client_counts_refused_requests_as_errors(address: str) -> None:
    found = keep_alive_client.run(f"{address}/refuse", b"x", 1, 60.0, 20)
    assert (found.requests, found.errors) == (15, 5)


def measured(server: str, number: int, rate: float, processor_us: float) -> Measurement:
    return Measurement(server, BodySize(1), 8, number, 100, 0, rate, processor_us=processor_us)


def test_ratios_compare_servers_within_each_round() -> None:
    # The machine is ten times slower in the second round, for both.
    found = summarise(
        [
            measured(OURS, 0, 1000.0, 50.0),
            measured(NOOP, 0, 2000.0, 20.0),
            measured(OURS, 1, 100.0, 500.0),
            measured(NOOP, 1, 200.0, 200.0),
            measured(OURS, 2, 300.0, 50.0),
            measured(NOOP, 2, 1000.0, 20.0),
        ]
    )
    noop = next(cell for cell in found if cell.server == NOOP)
    assert noop.rate == 1000.0
    assert noop.ours_by_rate == pytest.approx(0.5)
    assert noop.ours_by_processor == pytest.approx(0.4)


@pytest.mark.parametrize(("rate", "is_reached"), [(340.0, False), (360.0, True)])
def test_a_target_is_reached_at_its_ratio(rate: float, is_reached: bool) -> None:
    cells = summarise([measured(OURS, 0, rate, 1.0), measured(NOOP, 0, 1000.0, 1.0)])
    assert [one.is_reached for one in judge(cells, "wrk")] == [is_reached]


def test_a_limit_that_the_load_generator_does_not_reach_is_no_target() -> None:
    cells = summarise([measured(OURS, 0, 900.0, 1.0), measured(NOOP, 0, 1000.0, 1.0)])
    assert judge(cells, "own") == []


def test_growth_of_memory_is_told_from_noise() -> None:
    assert growth_of([100, 102, 99, 101, 100, 101]) < 0.03
    assert growth_of([100, 110, 120, 130, 140, 150]) > 0.2
