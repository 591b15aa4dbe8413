"""Whose segments are whose: a folder for each process, owned as long as its lock is held.

The kernel drops the lock of a process that has ended, however it ended, so the folder of a killed
process can be told from that of a living one and is taken over.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

SEGMENT_SUFFIX = ".segment"

_LOCK_NAME = "lock"


class SpoolFolder:
    """A folder of segments that this process owns."""

    def __init__(self, path: Path, lock: int) -> None:
        """Keep the folder's path and the descriptor that holds its lock."""
        self.path = path
        self._lock = lock

    def segments(self) -> list[Path]:
        """The segments, the oldest first."""
        return sorted(self.path.glob(f"*{SEGMENT_SUFFIX}"))

    def release(self) -> None:
        """Own the folder no more; it is removed when nothing is left in it."""
        with _turn(self.path.parent):
            # A person may have removed it.
            is_there = self.path.is_dir()
            if is_there and all(entry.name == _LOCK_NAME for entry in self.path.iterdir()):
                (self.path / _LOCK_NAME).unlink(missing_ok=True)
                self.path.rmdir()
            os.close(self._lock)


def new_folder(root: Path) -> SpoolFolder:
    """Make a folder for this process.

    Raises:
        OSError: The file system does not allow it.
    """
    with _turn(root):
        path = root / f"{os.getpid()}-{uuid4().hex[:8]}"
        path.mkdir()
        lock = _locked(path)
    if lock is None:
        raise FileExistsError(f"{path} was taken by another process")
    return SpoolFolder(path, lock)


def take_orphans(root: Path, owned: set[Path]) -> list[SpoolFolder]:
    """Take the folders over whose owners have ended.

    Args:
        root: The folder of the folders.
        owned: Those that this process owns already.
    """
    found = []
    with _turn(root):
        for path in sorted(root.iterdir()):
            if path in owned or not path.is_dir():
                continue
            lock = _locked(path)
            if lock is not None:
                found.append(SpoolFolder(path, lock))
    return found


def stored_bytes(root: Path, without: Path | None = None) -> int:
    """The size of everything below the root, in bytes, one of the folders left out."""
    total = 0
    for path in root.rglob("*"):
        if without is None or without not in path.parents:
            # Another process may just have shipped it.
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            total += status.st_size if path.is_file() else 0
    return total


@contextmanager
def _turn(root: Path) -> Iterator[None]:
    """Take turns with other processes: a folder is never seen between its making and its lock."""
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _locked(folder: Path) -> int | None:
    """Lock a folder; None where another process holds it."""
    descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
