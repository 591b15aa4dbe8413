"""Lets one run at a time train in a folder of data: its nodes read what its nodes keep there."""

import fcntl
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

_LOGGER = logging.getLogger(__name__)

# Files that a run writes and reads again; each has one name, whichever run it is.
_KEPT = {"snapshot", "validation_rows"}


class TrainingTurns:
    """Hooks that take turns by a file lock, which the kernel drops with the process."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._lock: int | None = None

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Take the folder of data of the environment."""
        self._folder = Path(context.project_path) / context.config_loader["globals"]["data_folder"]

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Any) -> None:
        """Wait until no other run trains here."""
        # A run that was refused before it began has told nobody of its end.
        self._release()
        if self._folder is None or not _KEPT & pipeline.datasets():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / ".training.lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOGGER.info("another run trains in %s: waiting for its end …", self._folder)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Let the next one train, after others have recorded how this one ended."""
        self._release()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Let the next one train."""
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
