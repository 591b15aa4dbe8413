"""The part of the prediction log on the local disk: appended to before an answer leaves."""

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from mlops_for_mle.serving.prediction_log.spool_folders import (
    SEGMENT_SUFFIX,
    SpoolFolder,
    new_folder,
    stored_bytes,
    take_orphans,
)
from mlops_for_mle.serving.settings import SpoolSync

_LARGEST_SEGMENT = 8 * 1024 * 1024

# macOS has no fdatasync.
_sync_file: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class SpoolFullError(Exception):
    """The disk bound is reached, or the disk takes no more."""


class PredictionSpool:
    """Append-only segment files of this process, and those it took over from ended ones.

    What was appended survives the end of the process, because the kernel has it; whether it
    survives a power failure is what ``sync`` says. Several threads may append. Everything else is
    for the one thread that ships.
    """

    def __init__(self, root: Path, max_bytes: int, sync: SpoolSync) -> None:
        """Name the folder that all processes share.

        Args:
            root: Made when it is missing.
            max_bytes: The bound of everything below the root. Other processes' bytes are counted
                when ``count_others`` runs, so several processes may pass the bound by what they
                write in the meantime.
            sync: When to make sure that the disk has the segments: before ``append`` returns
                (``always``), whenever ``sync`` is called (``every_second``), or never.
        """
        self._root = root
        self._max_bytes = max_bytes
        self._segment_bytes = max(4096, min(_LARGEST_SEGMENT, max_bytes // 8))
        self._sync = sync
        self._lock = threading.Lock()
        self._folder: SpoolFolder | None = None
        self._adopted: list[SpoolFolder] = []
        self._descriptor: int | None = None
        self._unsynced: list[int] = []
        self._described: set[str] = set()
        self._segment_number = 0
        self._segment_size = 0
        self._own_bytes = 0
        self._other_bytes = 0

    @property
    def stored_bytes(self) -> int:
        """The size of all processes' segments as far as it is known, in bytes."""
        return self._own_bytes + self._other_bytes

    def open(self) -> None:
        """Begin to own a folder.

        Raises:
            OSError: The file system does not allow it.
        """
        if self._folder is None:
            self._folder = new_folder(self._root)
            self.count_others()

    def append(self, release: str, description: bytes, frame: bytes) -> None:
        """Write a frame.

        Args:
            release: The release that the frame belongs to.
            description: The frame that describes it, which goes before its first one.
            frame: What to write.

        Raises:
            SpoolFullError: The bound is reached, or the disk takes no more. Nothing was written.
        """
        with self._lock:
            if self._folder is None:
                raise SpoolFullError("the prediction log is closed")
            if self._descriptor is not None and self._segment_size >= self._segment_bytes:
                self._end_segment()
            if release not in self._described:
                frame = description + frame
            if self._own_bytes + self._other_bytes + len(frame) > self._max_bytes:
                raise SpoolFullError(
                    f"the prediction log holds {self.stored_bytes} of at most {self._max_bytes} "
                    "bytes that were not shipped to the database (MLOPS_SPOOL_MAX_BYTES)"
                )
            try:
                descriptor = self._descriptor
                if descriptor is None:
                    descriptor = self._begin_segment(self._folder)
                self._write(descriptor, frame)
            except OSError as error:
                raise SpoolFullError(f"the prediction log cannot be written: {error}") from error
            self._described.add(release)

    def seal(self) -> None:
        """End the segment that is being written, if anything stands in it."""
        with self._lock:
            if self._segment_size:
                self._end_segment()

    def own_segments(self) -> list[Path]:
        """The sealed segments of this process, the oldest first."""
        with self._lock:
            folder = self._folder
            sealed = self._segment_number - (self._descriptor is not None)
        if folder is None:
            return []
        last = _segment_name(sealed)
        return [path for path in folder.segments() if path.name <= last]

    def adopted_segments(self) -> list[Path]:
        """The segments of processes that have ended."""
        return [path for folder in self._adopted for path in folder.segments()]

    def has_waiting(self) -> bool:
        """Whether anything is there to be shipped."""
        return bool(self._segment_size or self.own_segments() or self.adopted_segments())

    def adopt(self) -> int:
        """Take the folders of ended processes over.

        Returns:
            How many of them hold segments.
        """
        self._release_emptied()
        owned = {one.path for one in (*self._adopted, *self._own_folder())}
        taken = take_orphans(self._root, owned)
        self._adopted += taken
        found = sum(bool(one.segments()) for one in taken)
        self._release_emptied()
        return found

    def discard(self, segment: Path) -> None:
        """Remove a segment that the database has."""
        size = segment.stat().st_size
        segment.unlink()
        self._forget(segment, size)

    def set_aside(self, segment: Path) -> Path:
        """Keep a segment that cannot be read to its end, so that a person can look at it.

        Returns:
            Its new path, in the root.
        """
        kept = self._root / f"{segment.parent.name}-{segment.stem}.damaged"
        size = segment.stat().st_size
        segment.rename(kept)
        self._forget(segment, size)
        self.count_others()
        return kept

    def count_others(self) -> None:
        """Look how much the other processes have stored."""
        folder = self._folder
        self._other_bytes = stored_bytes(self._root, None if folder is None else folder.path)

    def sync(self) -> None:
        """Make sure that the disk has what was appended before this call.

        Raises:
            OSError: The disk failed.
        """
        with self._lock:
            ended, self._unsynced = self._unsynced, []
            current = None if self._descriptor is None else os.dup(self._descriptor)
        _sync_and_close([*ended, *([] if current is None else [current])])

    def close(self) -> None:
        """Write no more and let other processes ship what is left."""
        with self._lock:
            self._end_segment()
            folders, self._folder = [*self._adopted, *self._own_folder()], None
            ended, self._unsynced = self._unsynced, []
            self._adopted = []
        _sync_and_close(ended)
        for folder in folders:
            folder.release()

    def _own_folder(self) -> Iterable[SpoolFolder]:
        return () if self._folder is None else (self._folder,)

    def _begin_segment(self, folder: SpoolFolder) -> int:
        self._segment_number += 1
        path = folder.path / _segment_name(self._segment_number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        if self._sync != "never":
            _sync_folder(folder.path)
        self._descriptor = descriptor
        return descriptor

    def _end_segment(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        self._segment_size = 0
        self._described.clear()
        if descriptor is None:
            return
        if self._sync == "every_second":
            self._unsynced.append(descriptor)
        else:
            os.close(descriptor)

    def _write(self, descriptor: int, frame: bytes) -> None:
        written = 0
        try:
            written = os.write(descriptor, frame)
            while written < len(frame):
                written += os.write(descriptor, memoryview(frame)[written:])
            if self._sync == "always":
                _sync_file(descriptor)
        except OSError:
            self._undo(descriptor, written)
            raise
        self._segment_size += len(frame)
        self._own_bytes += len(frame)

    def _undo(self, descriptor: int, written: int) -> None:
        """Take back a part of a frame; where even that fails, nothing may follow it."""
        try:
            os.ftruncate(descriptor, self._segment_size)
        except OSError:
            self._own_bytes += written
            self._end_segment()

    def _forget(self, segment: Path, size: int) -> None:
        if self._folder is not None and segment.parent == self._folder.path:
            with self._lock:
                self._own_bytes -= size
        else:
            self._other_bytes = max(0, self._other_bytes - size)

    def _release_emptied(self) -> None:
        for folder in [one for one in self._adopted if not one.segments()]:
            self._adopted.remove(folder)
            folder.release()


def _segment_name(number: int) -> str:
    return f"{number:010d}{SEGMENT_SUFFIX}"


def _sync_and_close(descriptors: list[int]) -> None:
    try:
        for descriptor in descriptors:
            _sync_file(descriptor)
    finally:
        for descriptor in descriptors:
            with suppress(OSError):
                os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
