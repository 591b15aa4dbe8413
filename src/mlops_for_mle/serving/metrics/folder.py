"""The folder in which the processes of one server publish their numbers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_VARIABLE = "MLOPS_METRICS_FOLDER"


@contextmanager
def shared_metrics_folder() -> Iterator[None]:
    """Make the folder for the processes that are started meanwhile."""
    with TemporaryDirectory(prefix="mlops-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[_VARIABLE]


def metrics_folder() -> Path | None:
    """The folder of the server that this process belongs to; None for a single process."""
    folder = os.environ.get(_VARIABLE)
    return Path(folder) if folder else None
