"""Measures all servers in turn, round by round, so that a noisy machine disturbs them alike."""

import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from benchmarks.serving import load
from benchmarks.serving.bodies import BodySize, make_rows
from benchmarks.serving.prediction_log import PredictionLog
from benchmarks.serving.processes import ServerFailedError, ServerProcess
from benchmarks.serving.servers import OURS, Server, Start, environment_of
from benchmarks.serving.trained_model import TrainedModel

ONNXRUNTIME = "onnxruntime"

_WARM_UP_SECONDS = 1

# Large bodies are answered more quickly than a database takes their rows in; after so many rows a
# load run of ours ends early, so that nobody waits for minutes until they are shipped.
_MOST_LOGGED_ROWS = 1_000_000


@dataclass(frozen=True)
class Measurement:
    """One server under one load, in one round.

    Attributes:
        server: Its name.
        body: The size of the bodies.
        connections: How many requests were under way at once.
        round: Counted from 0.
        requests: Answered requests.
        errors: Answers other than 200 and broken connections.
        rate: Requests a second.
        median_ms: Median latency.
        p99_ms: 99th percentile of the latency.
        processor_us: Processor time of the server per request; of ours including the time in which
            the rest of the prediction log was shipped.
        database_us: Processor time of the prediction log's database per request.
        shipping_seconds: How long the prediction log was behind when the load ended.
    """

    server: str
    body: BodySize
    connections: int
    round: int
    requests: int
    errors: int
    rate: float
    median_ms: float = 0.0
    p99_ms: float = 0.0
    processor_us: float = 0.0
    database_us: float = 0.0
    shipping_seconds: float = 0.0


class RunningServer:
    """A server that was started for the benchmark."""

    def __init__(self, server: Server, start: Start) -> None:
        """Start it."""
        self.server = server
        self._start = start
        self.address = f"http://127.0.0.1:{start.port}"
        self.url = self.address + server.path
        command = server.command(start)
        environment = environment_of(server, start, command)
        log = start.folder / "output.log"
        self.process = ServerProcess(command.arguments, environment, command.folder, log)

    def wait_until_right(self, sizes: Sequence[BodySize]) -> None:
        """Wait until it answers, and compare its answers with scikit-learn's.

        Raises:
            ServerFailedError: It does not start, or an answer is wrong.
        """
        self.process.wait_until(self._is_answering)
        for size in sizes:
            form = self.server.form(size)
            if form is None or not self.server.is_checked:
                continue
            rows = make_rows(size.row_count)
            try:
                answer = form.answer(self.ask(form.body(rows)))
            except urllib.error.HTTPError as error:
                reason = error.read()[:300]
                raise ServerFailedError(f"{size.title}: {error.code} {reason!r}") from error
            except (KeyError, TypeError, ValueError, OSError) as error:
                raise ServerFailedError(f"{size.title}: {error!r}") from error
            if wrong := self._start.model.check(rows, answer):
                raise ServerFailedError(f"{size.title}: {wrong}")

    def ask(self, body: bytes) -> bytes:
        """Send one request, as any client would."""
        request = urllib.request.Request(
            self.url, data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def write_body(self, size: BodySize) -> Path | None:
        """The file with the body that it is loaded with; None where it takes no such body."""
        form = self.server.form(size)
        if form is None:
            return None
        file = self._start.folder / f"body-{size}.json"
        if not file.exists():
            file.write_bytes(form.body(make_rows(size.row_count)))
        return file

    def _is_answering(self) -> bool:
        try:
            self.ask(self.server.one.body(make_rows(1)))
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    sizes: Sequence[BodySize]
    connections: Sequence[int]
    seconds: int
    rounds: int
    generator: load.Generator

    def cells(self) -> Iterator[tuple[int, BodySize, int]]:
        """Round, size of the body and number of connections of each step."""
        for number in range(self.rounds):
            for size in self.sizes:
                for connections in self.connections:
                    yield number, size, connections


def warm_up(running: RunningServer, plan: Plan) -> None:
    """Let a server reach its usual speed."""
    for size in plan.sizes:
        if (body := running.write_body(size)) is not None:
            load.run(plan.generator, running.url, body, 4, _WARM_UP_SECONDS)
    running.process.wait_until_idle()


def measure_all(
    running: Sequence[RunningServer],
    plan: Plan,
    log: PredictionLog | None,
    limit: "OnnxruntimeAlone | None",
    tell: Callable[[Measurement], None],
) -> list[Measurement]:
    """Measure every server in every cell; each round begins with another server."""
    found = []
    for number, size, connections in plan.cells():
        first = number % len(running)
        for one in [*running[first:], *running[:first]]:
            body = one.write_body(size)
            if body is not None:
                found.append(_measure(one, body, size, connections, number, plan, log))
                tell(found[-1])
        if limit is not None and connections == plan.connections[0]:
            found.append(limit.measure(size, number, plan.seconds))
            tell(found[-1])
    return found


def _measure(
    running: RunningServer,
    body: Path,
    size: BodySize,
    connections: int,
    number: int,
    plan: Plan,
    log: PredictionLog | None,
) -> Measurement:
    log = log if running.server.name == OURS else None
    processor = running.process.processor_seconds()
    database = log.database.processor_seconds() if log else 0.0
    most = sys.maxsize if log is None else _MOST_LOGGED_ROWS // size.row_count
    try:
        result = load.run(plan.generator, running.url, body, connections, plan.seconds, most)
    except load.LoadError as error:
        print(f"{running.server.title}: {error}", flush=True)
        result = load.Load(requests=0, errors=1, seconds=0.0, median_ms=0.0, p99_ms=0.0)
    behind = time.monotonic()
    answered = result.requests
    if log is not None:
        # What was answered but not waited for by the generator is in the log, too.
        answered = log.wait_until_shipped(f"{running.address}/metrics") // size.row_count
        behind = time.monotonic() - behind
        if answered < result.requests:
            raise ServerFailedError(f"{result.requests} answers, {answered} of them logged")
    used = running.process.processor_seconds() - processor
    used_by_database = log.database.processor_seconds() - database if log else 0.0
    running.process.wait_until_idle()
    return Measurement(
        running.server.name,
        size,
        connections,
        number,
        result.requests,
        result.errors,
        result.rate,
        result.median_ms,
        result.p99_ms,
        used / max(1, answered) * 1e6,
        used_by_database / max(1, answered) * 1e6,
        behind if log else 0.0,
    )


class OnnxruntimeAlone:
    """onnxruntime in a loop, in one thread, without a server: the limit for batches."""

    def __init__(self, model: TrainedModel) -> None:
        """Load the graph as ours does."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(model.onnx_file), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0]

    def measure(self, size: BodySize, number: int, seconds: int) -> Measurement:
        """Run batches of this size for some seconds."""
        kind = np.float32 if self._input.type == "tensor(float)" else np.float64
        given = {self._input.name: np.array(make_rows(size.row_count), dtype=kind)}
        outputs = [self._session.get_outputs()[0].name]
        processor, start = time.process_time(), time.perf_counter()
        now, count = start, 0
        while now < start + seconds:
            self._session.run(outputs, given)
            count += 1
            now = time.perf_counter()
        used = time.process_time() - processor
        rate = count / (now - start)
        return Measurement(
            ONNXRUNTIME, size, 0, number, count, 0, rate, processor_us=used / count * 1e6
        )
