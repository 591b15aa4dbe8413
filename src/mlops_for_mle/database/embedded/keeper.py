"""The process that stops the server when nobody uses it any more, and what it needs for that.

Run as a script (`python -I -S keeper.py HOME`), so it imports the standard library only.
"""

import fcntl
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

USERS_LOCK, SERVER_LOCK, KEEPER_LOCK = "users.lock", "server.lock", "keeper.lock"
DATA, KEPT = "pgdata", "kept"
POLL_SECONDS = 0.005


def open_private(path: Path) -> IO[str]:
    """Open or create a file for its owner alone, to append."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "a")


def try_lock(file: IO[str], operation: int = fcntl.LOCK_EX) -> bool:
    """Take the lock of a file if that is possible at once."""
    with suppress(BlockingIOError):
        fcntl.flock(file, operation | fcntl.LOCK_NB)
        return True
    return False


def read_postmaster(home: Path) -> list[str]:
    """The lines of `postmaster.pid`, to be believed only while `server.lock` is held."""
    with suppress(FileNotFoundError):
        return (home / DATA / "postmaster.pid").read_text().split("\n")
    return []


def stop_server(home: Path, lock: IO[str]) -> None:
    """Stop all processes of the server; then `lock`, on `server.lock`, is held exclusively."""
    began = time.monotonic()
    while not try_lock(lock):
        waited = time.monotonic() - began
        if waited > 120:
            raise TimeoutError(f"the PostgreSQL in {home} does not stop")
        # Looked up each time: a server that was just launched has not written it yet.
        pid = "".join(read_postmaster(home)[:1])
        name = Path("/proc", pid, "comm")
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            # For a server in another container the id means another process here, or none.
            if sys.platform == "darwin" or name.read_text() == "postgres\n":
                # Fast shutdown first; the immediate one needs no checkpoint, but then a recovery.
                os.kill(int(pid), signal.SIGINT if waited < 60 else signal.SIGQUIT)
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    home = Path(sys.argv[1])
    with open_private(home / USERS_LOCK) as users, open_private(home / SERVER_LOCK) as server:
        fcntl.flock(users, fcntl.LOCK_EX)
        if not (home / KEPT).exists():
            stop_server(home, server)
