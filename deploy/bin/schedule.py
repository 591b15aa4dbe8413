#!/usr/bin/env python
"""Runs the pipelines at once and then every PIPELINE_EVERY (1h, 30m …; "off": only on demand).

A run that fails is tried again after a minute at the latest. ``--check`` is the health check: it
fails when the last run failed or a run is overdue.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

COMMAND = ("run_pipeline",)
STATUS = Path(tempfile.gettempdir()) / "schedule.json"
LONGEST_RUN = timedelta(hours=1)
RETRY = timedelta(minutes=1)
# A run that is nearly done may end when the container is stopped; Docker waits a little longer.
GRACE = timedelta(seconds=45)


def interval(text: str) -> timedelta | None:
    """Read PIPELINE_EVERY; None means off.

    Raises:
        ValueError: It is neither off nor a duration.
    """
    if text.strip().lower() == "off":
        return None
    from click import BadParameter

    from mlops_for_mle.commands.options import Duration

    try:
        every = Duration().convert(text, None, None)
    except BadParameter as error:
        raise ValueError(f"PIPELINE_EVERY: {error.message}, or off") from None
    if not every:
        raise ValueError("PIPELINE_EVERY: expected more than 0, or off (found 0)")
    return every


def report(exit_status: int | None, due: float | None) -> None:
    """Tell the health check how the last run ended and when the next has to be over."""
    partial = STATUS.with_suffix(".new")
    partial.write_text(json.dumps({"exit_status": exit_status, "over_by": due}), "utf-8")
    partial.replace(STATUS)


def check() -> int:
    """The exit status of the health check."""
    try:
        status = json.loads(STATUS.read_text("utf-8"))
    except FileNotFoundError:
        sys.stdout.write("No run has ended yet.\n")
        return 1
    if status["exit_status"] != 0:
        sys.stdout.write(f"The last run ended with status {status['exit_status']}.\n")
        return 1
    if status["over_by"] is not None and time.time() > status["over_by"]:
        sys.stdout.write("A run is overdue.\n")
        return 1
    return 0


def run_once(stopping: threading.Event) -> int:
    """Run the pipelines; when the container stops, give them time to end and then end them."""
    process = subprocess.Popen(COMMAND)
    while process.poll() is None and not stopping.wait(0.2):
        pass
    try:
        return process.wait(GRACE.total_seconds())
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.wait()


def run_on_schedule(every: timedelta, stopping: threading.Event) -> None:
    """Run until told to stop."""
    failures = 0
    while not stopping.is_set():
        began = time.monotonic()
        exit_status = run_once(stopping)
        failures = failures + 1 if exit_status else 0
        pause = every if not failures else min(every, RETRY, timedelta(seconds=5) * failures)
        remaining = max(0.0, pause.total_seconds() - (time.monotonic() - began))
        report(exit_status, time.time() + remaining + LONGEST_RUN.total_seconds())
        stopping.wait(remaining)


def main() -> int:
    """Run until SIGTERM or SIGINT.

    Returns:
        The exit status: 2 for a wrong interval.
    """
    if sys.argv[1:] == ["--check"]:
        return check()
    try:
        every = interval(os.environ.get("PIPELINE_EVERY", "1h"))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if every is None:
        report(0, None)
        stopping.wait()
    else:
        run_on_schedule(every, stopping)
    return 0


if __name__ == "__main__":
    sys.exit(main())
