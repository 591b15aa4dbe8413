"""The parts of ``benchmarks`` on which its numbers rest."""

import runpy
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from benchmarks.common import interleave, ratio
from benchmarks.serving import client
from benchmarks.serving.checks import growth_of
from benchmarks.serving.compare import GATES, Load, Loads, judge
from benchmarks.serving.servers import HERE, KINDS

PROJECT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["start_up", "ingestion", "monitoring", "scoring", "serving"])
def test_each_says_what_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    said = capsys.readouterr().out
    assert all(option in said for option in ("--rounds", "--against", "--check"))


def test_rounds_are_compared_within_themselves_in_changing_order_and_the_first_not_counted() -> (
    None
):
    calls: list[str] = []
    ways = {(name,): lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert interleave(2, ways, str) == {("a",): [3, 6], ("b",): [4, 5]}
    assert "".join(calls) == "baabba"
    # The machine is ten times slower in the second round, for both.
    assert ratio([1000, 100, 300], [2000, 200, 1000]) == 0.5


def loads(ours: float, other: float, errors: int = 0) -> Loads:
    found = {"ours": Load(ours, 1, 1, 1, errors), "noop": Load(other, 1, 1, 1, 0)}
    return {("iris", "1", name): [load] for name, load in found.items()}


@pytest.mark.parametrize(
    ("found", "names", "is_reached"),
    [
        (loads(551, 1000), ["ours", "noop"], True),
        (loads(549, 1000), ["ours", "noop"], False),
        (loads(900, 1000, errors=1), ["ours", "noop"], False),
        (loads(900, 1000), ["ours", "noop", "mlflow"], False),
    ],
    ids=["reached", "missed", "errors", "a peer was left out"],
)
def test_a_gate_is_reached_at_its_ratio(found: Loads, names: list[str], is_reached: bool) -> None:
    assert judge(found, names) is is_reached


def test_gates_name_servers_and_peers_have_pinned_versions() -> None:
    assert {name for gates in GATES.values() for name in gates} <= set(KINDS)
    pinned = {file.stem for file in (HERE / "requirements").glob("*.txt")}
    assert pinned == set(KINDS) - {"ours", "other", "noop"}


def test_growth_of_memory_is_told_from_noise() -> None:
    assert growth_of([100, 102, 99, 101, 100, 101]) < 0.03
    assert growth_of([100, 110, 120, 130, 140, 150]) > 0.2


class Handler(BaseHTTPRequestHandler):
    """Sends the body back; every fourth request is refused where the path says so."""

    protocol_version = "HTTP/1.1"
    counter = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).counter += 1
        is_refused = self.path == "/refuse" and type(self).counter % 4 == 0
        self.send_response(503 if is_refused else 200)
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


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "large"])
def test_the_client_sends_as_many_requests_as_it_is_told_and_counts_those_refused(
    address: str, size: int
) -> None:
    found = client.run(f"{address}/plain", b"x" * size, 4, 60.0, 20)
    assert (found["requests"], found["errors"], Handler.counter) == (20, 0, 20)
    assert 0 < found["median_ms"] <= found["p99_ms"]
    assert found["seconds"] > 0
    refused = client.run(f"{address}/refuse", b"x", 1, 60.0, 20)
    assert (refused["requests"], refused["errors"]) == (15, 5)
