"""Sends a million requests to one worker and watches its memory.

    python -m benchmarks.serving.memory
    python -m benchmarks.serving.memory --requests 200000 --step 20000

The exit status is 1 when the worker held more memory than allowed, or kept growing.
"""

import argparse
import signal
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving import environments, load, trained_model
from benchmarks.serving.bodies import BodySize
from benchmarks.serving.prediction_log import PredictionLog
from benchmarks.serving.rounds import RunningServer
from benchmarks.serving.servers import OURS, SERVERS, start_facts

MOST_AT_REST = 200 * 1024**2

# Between the first and the second half of the readings after the first step.
MOST_GROWTH = 0.03


def main() -> int:
    """Start ours, load it in steps, read its memory at rest after each."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options.cache.mkdir(parents=True, exist_ok=True)
    model = trained_model.prepare(options.cache)
    log = PredictionLog(model.project)
    server = next(one for one in SERVERS if one.name == OURS)
    running = RunningServer(server, start_facts(server, model, None, options.cache))
    sizes = [BodySize(1)]
    try:
        running.wait_until_right(sizes)
        readings = [running.process.resident_bytes()]
        print(f"{'requests':>10}  {'resident MiB':>12}  {'requests/s':>10}", flush=True)
        print(f"{0:10,}  {_mebibytes(readings[0]):12.1f}  {'-':>10}", flush=True)
        sent = errors = 0
        while sent < options.requests:
            step = min(options.step, options.requests - sent)
            body = running.write_body(sizes[0])
            if body is None:
                raise AssertionError("ours takes one row")
            found = load.run_count(running.url, body, options.connections, step)
            log.wait_until_shipped(f"{running.address}/metrics")
            readings.append(running.process.resident_bytes())
            sent, errors = sent + step, errors + found.errors
            print(f"{sent:10,}  {_mebibytes(readings[-1]):12.1f}  {found.rate:10,.0f}", flush=True)
    finally:
        running.process.stop()
        log.close()
    return _judge(readings, errors)


def _judge(readings: Sequence[int], errors: int) -> int:
    growth = growth_of(readings[1:])
    print(
        f"at most {_mebibytes(max(readings)):.1f} MiB (allowed {_mebibytes(MOST_AT_REST):.0f}), "
        f"growth {growth:+.1%} (allowed {MOST_GROWTH:.0%}), {errors} errors"
    )
    return int(max(readings) > MOST_AT_REST or growth > MOST_GROWTH or errors > 0)


def growth_of(readings: Sequence[int]) -> float:
    """By how much the second half of the readings is above the first, as a share."""
    middle = len(readings) // 2
    if middle == 0:
        return 0.0
    first = statistics.median(readings[:middle])
    return statistics.median(readings[-middle:]) / first - 1


def _mebibytes(count: int) -> float:
    return count / 1024**2


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.memory", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--requests", type=int, default=1_000_000, help="in all (default: 1000000)")
    add("--step", type=int, default=100_000, help="between two readings (default: 100000)")
    add("--connections", type=int, default=8, help="requests under way at once (default: 8)")
    add(
        "--cache",
        type=lambda text: Path(text).resolve(),
        default=environments.CACHE,
        help=argparse.SUPPRESS,
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
