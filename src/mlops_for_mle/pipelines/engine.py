"""Where the parallel work of a pipeline is done: on threads, on processes or on a Dask cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

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
            with parallel_config(_LOCAL[self.scheduler], n_jobs=-1):
                yield
            return
        # Of the extra `scale`.
        from distributed import Client

        with Client(self.scheduler) as client, parallel_config("dask", client=client):
            yield
