"""Several workers as processes of their own, started again when one dies."""

import contextlib
import json
import logging
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from mlops_for_mle.errors import UserError
from mlops_for_mle.scoring.plan import ScoringPlan
from mlops_for_mle.scoring.worker import Totals
from mlops_for_mle.stop_signal import StopSignal

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 15.0
_STEADY_SECONDS = 30.0
_GRACE_SECONDS = 30.0
_LOOK_SECONDS = 0.1

_LOGGER = logging.getLogger(__name__)


@dataclass
class _Slot:
    """The place of one worker, whose process may be replaced by another."""

    number: int
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = _FIRST_PAUSE_SECONDS
    is_done: bool = False


class WorkerProcesses:
    """Runs workers until each has ended by itself or all were told to stop."""

    def __init__(self, plan: ScoringPlan, count: int, stopping: StopSignal) -> None:
        """Prepare; nothing is started.

        Args:
            plan: What each worker is to do.
            count: How many workers.
            stopping: Has all of them end after the batch in hand.
        """
        self.totals = Totals()
        self._plan = plan
        self._stopping = stopping
        self._slots = [_Slot(number) for number in range(1, count + 1)]
        self._has_failed = False

    def run(self) -> Totals:
        """Start the workers and wait for their end.

        Raises:
            UserError: Workers that do not follow could not do their work; they have said why.
        """
        try:
            while not self._stopping.wait(_LOOK_SECONDS):
                for slot in self._slots:
                    self._look_after(slot)
                if all(slot.is_done for slot in self._slots):
                    break
        finally:
            self._stop_all()
        if self._has_failed:
            raise UserError("Workers ended early; see the reasons above.")
        return self.totals

    def process_ids(self) -> list[int]:
        """The workers that run at the moment."""
        return [slot.process.pid for slot in self._slots if slot.process is not None]

    def _look_after(self, slot: _Slot) -> None:
        now = time.monotonic()
        if slot.is_done:
            return
        if slot.process is None:
            if now >= slot.start_at:
                slot.process = _start(self._plan, slot.number)
                slot.started_at = now
            return
        code = slot.process.poll()
        if code is None:
            return
        self._add_totals(slot.process)
        slot.process = None
        # A worker that follows ends by itself only when something is wrong; any worker may be
        # killed, and its batch is in the queue again.
        if not self._plan.follow and code >= 0:
            slot.is_done = True
            self._has_failed |= code > 0
            return
        if now - slot.started_at > _STEADY_SECONDS:
            slot.pause = _FIRST_PAUSE_SECONDS
        slot.start_at = now + slot.pause
        _LOGGER.warning(
            "worker=%d %s; starting it again in %.1f s", slot.number, _ending(code), slot.pause
        )
        slot.pause = min(slot.pause * 2, _LONGEST_PAUSE_SECONDS)

    def _stop_all(self) -> None:
        running = [slot.process for slot in self._slots if slot.process is not None]
        for slot in self._slots:
            slot.process = None
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _LOGGER.warning("process %d does not stop and is killed", process.pid)
                process.kill()
                process.wait()
            self._add_totals(process)

    def _add_totals(self, process: "subprocess.Popen[bytes]") -> None:
        """Add what a worker has said at its end; one that was killed has said nothing."""
        output, _ = process.communicate()
        if output.strip():
            found = json.loads(output)
            self.totals.scored += found["scored"]
            self.totals.rejected += found["rejected"]
            self.totals.gone += found["gone"]


def _start(plan: ScoringPlan, number: int) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_for_mle.scoring", str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if process.stdin is not None:
        # Stays open: its end, also by this process's death, tells the worker to stop.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(plan.model_dump_json().encode() + b"\n")
            process.stdin.flush()
    return process


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
