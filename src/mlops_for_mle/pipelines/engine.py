"""Where the parallel work of a pipeline is done: on threads, on processes or on a Dask cluster."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from pydantic import Field

from mlops_for_mle.contract import Configuration

_LOCAL = {"threads": "threading", "processes": "loky"}


class Engine(Configuration):
    """What runs the work of joblib, in pipelines and inside scikit-learn.

    Attributes:
        scheduler: ``threads`` or ``processes``, one for each core of this machine; or the address
            of a Dask scheduler, such as ``tcp://host:8786``, whose workers have this project
            installed and reach the same database, files and release store.
    """

    scheduler: str = Field(default="threads", pattern=r"^(threads|processes|(tcp|tls|ucx)://.+)$")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have joblib work there within this context."""
        from joblib import parallel_config

        if self.scheduler in _LOCAL:
            workers = {"initializer": end_with, "initargs": (os.getpid(),)}
            options = workers if self.scheduler == "processes" else {}
            with parallel_config(_LOCAL[self.scheduler], n_jobs=-1, **options):
                yield
            return
        # Of the extra `scale`.
        from distributed import Client

        with Client(self.scheduler) as client, parallel_config("dask", client=client):
            yield


def end_with(parent: int) -> None:
    """End this process soon after its parent, which may be killed: it would wait for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()
