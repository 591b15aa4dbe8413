"""Compares our server with others on the same model, the same rows and one worker each.

    python -m benchmarks.serving
    python -m benchmarks.serving --only ours,noop,mlserver --bodies 1,10000c --connections 8

The first run installs the peers into environments of their own and trains the model. The exit
status is 1 when a target ratio was measured and missed, or ours did not answer as it should.
"""

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.serving import environments, load, trained_model
from benchmarks.serving.bodies import BodySize
from benchmarks.serving.prediction_log import PredictionLog
from benchmarks.serving.processes import ServerFailedError
from benchmarks.serving.ratios import judge, summarise
from benchmarks.serving.report import Report, describe
from benchmarks.serving.rounds import (
    ONNXRUNTIME,
    OnnxruntimeAlone,
    Plan,
    RunningServer,
    measure_all,
    warm_up,
)
from benchmarks.serving.servers import OURS, SERVERS, Server, start_facts

NAMES = (*(server.name for server in SERVERS), ONNXRUNTIME)


def main() -> int:
    """Install, start, check, measure, report."""
    options = _options()
    # So that no server is left running when this process is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.lock:
        environments.lock()
        return 0
    options.cache.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        options.bodies, options.connections, options.seconds, options.rounds, options.generator
    )
    wanted = [server for server in SERVERS if server.name in options.only]
    left_out: dict[str, str] = {}
    installed = _install(wanted, options.cache, left_out)
    if options.install:
        _tell_left_out(left_out)
        return 0
    load_before = os.getloadavg()[0]
    model = trained_model.prepare(options.cache)
    with ExitStack() as stack:
        log = None
        if OURS in options.only:
            log = PredictionLog(model.project)
            stack.callback(log.close)
        started = []
        for server, environment in installed.items():
            start = start_facts(server, model, environment, options.cache)
            started.append(RunningServer(server, start))
            stack.callback(started[-1].process.stop)
        running = []
        for one in started:
            try:
                one.wait_until_right(plan.sizes)
            except ServerFailedError as error:
                if one.server.name == OURS:
                    raise SystemExit(f"ours: {error}") from None
                left_out[one.server.name] = str(error)
                one.process.stop()
            else:
                running.append(one)
        _tell_left_out(left_out)
        memory = {one.server.name: one.process.resident_bytes() for one in running}
        print("warming up …", flush=True)
        for one in running:
            warm_up(one, plan)
            if log is not None and one.server.name == OURS:
                log.wait_until_shipped(f"{one.address}/metrics")
        limit = OnnxruntimeAlone(model) if ONNXRUNTIME in options.only else None
        measurements = measure_all(
            running, plan, log, limit, lambda found: print(describe(found), flush=True)
        )
    cells = summarise(measurements)
    report = Report(plan, cells, measurements, left_out, model.versions, memory, load_before)
    print(f"\n{report.text()}")
    for file in report.write(options.output or options.cache / "results"):
        print(f"wrote {file}")
    has_failed = any(cell.errors for cell in cells if cell.server == OURS)
    return int(has_failed or not all(one.is_reached for one in judge(cells, plan.generator)))


def _install(
    wanted: list[Server], cache: Path, left_out: dict[str, str]
) -> dict[Server, Path | None]:
    """The servers that can be started, with their environments."""
    installed: dict[Server, Path | None] = {}
    for server in wanted:
        if server.requirements is None:
            installed[server] = None
            continue
        try:
            installed[server] = environments.ensure(server.requirements, cache / "environments")
        except environments.NotInstallableError as error:
            left_out[server.name] = str(error)
    return installed


def _tell_left_out(left_out: dict[str, str]) -> None:
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--only", type=_names, default=NAMES, help=f"some of {','.join(NAMES)}")
    add(
        "--bodies",
        type=_bodies,
        default=_bodies("1,100,10000,10000c"),
        help="rows in a body, with c for columns (default: 1,100,10000,10000c)",
    )
    add(
        "--connections",
        "--concurrency",
        type=_counts,
        default=(1, 8, 64),
        help="requests under way at once (default: 1,8,64)",
    )
    add("--seconds", type=_count, default=3, help="of each load run (default: 3)")
    add("--rounds", type=_count, default=5, help="how often each is measured (default: 5)")
    add(
        "--generator",
        choices=("wrk", "own"),
        default=load.default_generator(),
        help="what sends small bodies (default: wrk where it is installed)",
    )
    add(
        "--cache",
        type=lambda text: Path(text).resolve(),
        default=environments.CACHE,
        help=argparse.SUPPRESS,
    )
    add("--output", type=Path, default=None, help="folder of results.txt, .json and .svg")
    add("--install", action="store_true", help="only install the peers")
    add("--lock", action="store_true", help="only resolve the peers' versions anew")
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    names = {one.strip() for one in text.split(",")}
    if unknown := names - set(NAMES):
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(NAMES)}"
        )
    if names == {ONNXRUNTIME}:
        raise argparse.ArgumentTypeError("name a server, too")
    return tuple(name for name in NAMES if name in names)


def _bodies(text: str) -> tuple[BodySize, ...]:
    try:
        sizes = tuple(map(BodySize.parse, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if any(size.row_count > trained_model.KNOWN_ROWS for size in sizes):
        raise argparse.ArgumentTypeError(f"at most {trained_model.KNOWN_ROWS} rows")
    return sizes


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(_count, text.split(",")))


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
