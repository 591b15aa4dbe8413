"""The process that stops the embedded PostgreSQL when nobody uses it any more.

Run as a script (`python -I -S guard.py guard …`), so it needs the standard
library only. The locks are `flock` on files in the home directory:

- `start.lock`: exclusive while somebody starts or stops the server;
- `lease.lock`: shared by every process that uses the server, exclusive for the guard that stops it;
  nobody waits for `start.lock` while holding this one exclusively;
- `guard.lock`: exclusive as long as a guard lives;
- `keeper.lock`: exclusive as long as a keeper lives, the process that only holds a lease;
- `server.lock`: inherited by the postmaster and its children, held as long as one of them lives.

The kernel drops the locks of a process that is killed, so none of them can be left behind.
"""

import contextlib
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

START_LOCK = "start.lock"
LEASE_LOCK = "lease.lock"
GUARD_LOCK = "guard.lock"
KEEPER_LOCK = "keeper.lock"
SERVER_LOCK = "server.lock"
# Its first line names the data directory where that is not in the home directory.
LOCATION_FILE = "cluster-location.txt"

POLL_SECONDS = 0.005
# Fast shutdown writes a checkpoint, which may take long on a slow disk; immediate does not.
SHUTDOWN_SECONDS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 20.0))


class Postmaster(NamedTuple):
    """A live postmaster as its `postmaster.pid` describes it."""

    pid: int
    port: int
    state: str
    """`starting`, `ready`, `standby` or `stopping`; empty while the file is being written."""


def open_in_home(home: Path, name: str, flags: int = os.O_RDWR) -> int:
    """Open or create a private file in the home directory; root leaves it to the home's owner."""
    descriptor = os.open(home / name, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        owner = home.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def try_lock(descriptor: int, operation: int) -> bool:
    """Take the lock if that is possible at once."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(descriptor: int, operation: int, seconds: float) -> bool:
    """Take the lock, waiting for it no longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not try_lock(descriptor, operation):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock exclusively; creates nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def data_directory(home: Path) -> Path:
    """Where the cluster of a home directory lies or will lie; it need not exist."""
    try:
        return Path((home / LOCATION_FILE).read_text().split("\n")[0])
    except FileNotFoundError:
        return home / "cluster"


def find_postmaster(data: Path) -> Postmaster | None:
    """The live postmaster of a data directory; a stale `postmaster.pid` does not count."""
    try:
        lines = (data / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return None
    if not lines[0].strip().isdigit() or not is_postmaster(int(lines[0]), data):
        return None
    port = lines[3].strip() if len(lines) > 3 else ""
    state = lines[7].strip() if len(lines) > 7 else ""
    return Postmaster(int(lines[0]), int(port) if port.isdigit() else 0, state)


def is_postmaster(pid: int, data: Path) -> bool:
    """Whether the process is PostgreSQL on this data directory; a zombie is not."""
    if not sys.platform.startswith("linux"):
        command = _command_by_ps(pid)
        return "postgres" in command and f"-D {data}" in command
    process = Path("/proc", str(pid))
    try:
        arguments = (process / "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    if Path(os.fsdecode(arguments[0])).name != "postgres":
        return False
    if os.fsencode(data) in arguments:
        return True
    try:
        return (process / "cwd").readlink() == data.resolve()
    except OSError:
        return False


def _command_by_ps(pid: int) -> str:
    import subprocess

    command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def stop_postmaster(home: Path) -> None:
    """Stop the server of a home directory and wait for its end; the caller holds `start.lock`.

    Raises:
        TimeoutError: if it neither stops fast nor at once.
    """
    data, deadline = data_directory(home), time.monotonic() + 60
    # A held server.lock without a postmaster: one that was just launched or killed; wait for it.
    while (found := find_postmaster(data)) is None and is_locked(home / SERVER_LOCK):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no PostgreSQL is to be seen on {data}, but server.lock is held")
        time.sleep(POLL_SECONDS)
    if found is None:
        return
    for stop_signal, seconds in SHUTDOWN_SECONDS:
        if not is_postmaster(found.pid, data):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, stop_signal)
        deadline = time.monotonic() + seconds
        while is_postmaster(found.pid, data) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    if not is_postmaster(found.pid, data):
        return
    raise TimeoutError(f"PostgreSQL (process {found.pid}, {data}) does not stop")


def guard(home: Path, guard_lock: int) -> None:
    """Wait until nobody holds a lease, then stop the server."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    lease, start = open_in_home(home, LEASE_LOCK), open_in_home(home, START_LOCK)
    while True:
        fcntl.flock(lease, fcntl.LOCK_EX)
        # Given back before start.lock is taken: a starter takes the two in the other order.
        fcntl.flock(lease, fcntl.LOCK_UN)
        fcntl.flock(start, fcntl.LOCK_EX)
        if try_lock(lease, fcntl.LOCK_EX):
            break
        fcntl.flock(start, fcntl.LOCK_UN)
    try:
        stop_postmaster(home)
    finally:
        # In this order: whoever gets start.lock next must not take this guard for a live one.
        for descriptor in (guard_lock, lease, start):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def keep() -> None:
    """Hold the inherited lease until SIGTERM."""
    while True:
        signal.pause()


if __name__ == "__main__":
    if sys.argv[1] == "guard":
        guard(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        keep()
