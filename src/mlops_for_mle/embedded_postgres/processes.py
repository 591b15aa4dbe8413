"""Processes that outlive the one that starts them: the guard, the keeper and the server itself."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlops_for_mle.embedded_postgres import guard
from mlops_for_mle.embedded_postgres.guard import (
    GUARD_LOCK,
    KEEPER_LOCK,
    LEASE_LOCK,
    is_locked,
    open_in_home,
    wait_for_lock,
)
from mlops_for_mle.embedded_postgres.placement import EmbeddedPostgresError

LOG_FILE = "server.log"

_PATIENCE_SECONDS = 10.0


def open_log(home: Path) -> int:
    """Open the log that the server, the guard and the keeper share, for appending."""
    return open_in_home(home, LOG_FILE, os.O_WRONLY | os.O_APPEND)


def spawn_detached(
    command: list[str], log: int, *, inherited: tuple[int, ...], **options: Any
) -> int:
    """Start a process in a session of its own, without our standard streams, and return its id.

    The shell in between ends at once, so the process never becomes a zombie of this one.
    """
    script = '"$@" </dev/null >&2 & echo "$!"'
    return int(
        subprocess.run(
            ["/bin/sh", "-c", script, "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=inherited,
            start_new_session=True,
            check=True,
            **options,
        ).stdout
    )


def ensure_guard(home: Path) -> None:
    """Start a guard unless one lives; the caller holds `start.lock` and a lease."""
    lock = open_in_home(home, GUARD_LOCK)
    try:
        if not is_locked(home / GUARD_LOCK):
            _claim(lock, home / GUARD_LOCK)
            _spawn_program(home, "guard", str(home), str(lock), inherited=(lock,))
    finally:
        os.close(lock)


def ensure_keeper(home: Path) -> None:
    """Start a keeper unless one lives; the caller holds `start.lock` and a lease."""
    lock, lease = open_in_home(home, KEEPER_LOCK), open_in_home(home, LEASE_LOCK)
    try:
        if not is_locked(home / KEEPER_LOCK):
            _claim(lock, home / KEEPER_LOCK)
            fcntl.flock(lease, fcntl.LOCK_SH)
            _spawn_program(home, "keep", inherited=(lock, lease))
    finally:
        os.close(lock)
        os.close(lease)


def end_keeper(home: Path) -> None:
    """End the keeper if there is one; the caller holds `start.lock`."""
    if not is_locked(home / KEEPER_LOCK):
        return
    lock = open_in_home(home, KEEPER_LOCK)
    try:
        # The id is not stale: the lock that was just seen to be held is the keeper's.
        os.kill(int((home / KEEPER_LOCK).read_text()), signal.SIGTERM)
        _claim(lock, home / KEEPER_LOCK)
        os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def _claim(lock: int, path: Path) -> None:
    # Others hold it for moments, to see whether it is held.
    if not wait_for_lock(lock, fcntl.LOCK_EX, _PATIENCE_SECONDS):
        raise EmbeddedPostgresError(f"Another process does not give {path} back.")


def _spawn_program(home: Path, *arguments: str, inherited: tuple[int, ...]) -> None:
    """Start a guard or a keeper.

    It inherits the lock that proves its life, the first of `inherited`; its id is written in there.
    """
    command = [sys.executable, "-I", "-S", str(Path(guard.__file__).resolve()), *arguments]
    log = open_log(home)
    try:
        pid = spawn_detached(command, log, inherited=inherited, cwd="/")
    finally:
        os.close(log)
    os.ftruncate(inherited[0], 0)
    os.pwrite(inherited[0], str(pid).encode(), 0)
