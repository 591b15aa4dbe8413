"""A server that is running: its processes, their processor time and their memory."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

START_SECONDS = 180.0
_SETTLE_SECONDS = 120.0
_STOP_SECONDS = 20.0

# A server is idle when all its processes together take less than this share of one core.
_IDLE_SHARE = 0.08
_IDLE_WINDOW_SECONDS = 0.25


class ServerFailedError(Exception):
    """A server did not start or did not answer as it should."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ProcessTree:
    """A process with all that it has started."""

    def __init__(self, pid: int) -> None:
        """Name the process at the root."""
        self._root = psutil.Process(pid)

    def members(self) -> list[psutil.Process]:
        """The processes that are alive."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def processor_seconds(self) -> float:
        """Processor time, user and system, that was used until now."""
        total = 0.0
        for process in self.members():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def resident_bytes(self) -> int:
        """Resident memory; what processes share counts for each."""
        total = 0
        for process in self.members():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def wait_until_idle(self) -> None:
        """Wait for the end of work that a load run has left behind."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        before, then = self.processor_seconds(), time.monotonic()
        while then < deadline:
            time.sleep(_IDLE_WINDOW_SECONDS)
            after, now = self.processor_seconds(), time.monotonic()
            if (after - before) / (now - then) < _IDLE_SHARE:
                return
            before, then = after, now


class ServerProcess(ProcessTree):
    """A server that this benchmark has started."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], folder: Path, log: Path
    ) -> None:
        """Start it.

        Args:
            command: Program and arguments.
            environment: All variables.
            folder: Where it runs.
            log: The file that takes what it prints.
        """
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        super().__init__(self._process.pid)

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait until a condition holds.

        Raises:
            ServerFailedError: The process ended, or it took too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if self._process.poll() is not None:
                raise ServerFailedError(f"ended at the start; {self.last_words()}")
            if time.monotonic() > deadline:
                raise ServerFailedError(f"did not answer in time; {self.last_words()}")
            time.sleep(0.2)

    def last_words(self) -> str:
        """The end of what it has printed."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return f"its log {self.log} ends with: " + " | ".join(lines[-3:])

    def stop(self) -> None:
        """End the process and all that it has started."""
        members = self.members()
        if self._process.poll() is None:
            self._process.terminate()
        _, alive = psutil.wait_procs(members, timeout=_STOP_SECONDS)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
