"""Watches over the prediction log of ours: what was answered must be in the database, once."""

import time
import urllib.request
from pathlib import Path

from benchmarks.serving.processes import ProcessTree
from sqlalchemy import text

from mlops_for_mle.database import DATABASE_NAME, embedded, engine_for, normalise_url

_SHIP_SECONDS = 600.0
_LOOK_SECONDS = 0.2


class PredictionLogError(Exception):
    """Answered predictions are missing in the database, or more are there than were answered."""


class PredictionLog:
    """The table ``predictions`` of the benchmark's own database."""

    def __init__(self, project: Path) -> None:
        """Start or join the project's embedded database."""
        home = project / "data" / "postgres"
        server = embedded.acquire(home, databases=(DATABASE_NAME,))
        self._engine = engine_for(normalise_url(server.url(DATABASE_NAME), "embedded"))
        self.database = ProcessTree(server.pid)
        self._seen = 0
        self.forget()

    def forget(self) -> None:
        """Empty the table, so that every load run begins alike."""
        with self._engine.begin() as connection:
            connection.execute(text("TRUNCATE predictions"))

    def wait_until_shipped(self, metrics_url: str) -> int:
        """Wait until the database has every prediction that was answered since the last call.

        Returns:
            How many rows these are.

        Raises:
            PredictionLogError: It has more or fewer.
        """
        deadline = time.monotonic() + _SHIP_SECONDS
        before = -1
        recorded, shipped = _counters(metrics_url)
        # A request that the load generator no longer waits for may still be answered.
        while not before == recorded == shipped:
            if time.monotonic() > deadline:
                raise PredictionLogError(f"{recorded - shipped} predictions were not shipped")
            time.sleep(_LOOK_SECONDS)
            before = recorded
            recorded, shipped = _counters(metrics_url)
        answered, self._seen = recorded - self._seen, recorded
        with self._engine.begin() as connection:
            found = connection.scalar(text("SELECT count(*) FROM predictions"))
        if found != answered:
            raise PredictionLogError(f"{answered} predictions were answered, {found} are logged")
        self.forget()
        return answered

    def close(self) -> None:
        """Leave the database; it stops when the last process has left it."""
        self._engine.dispose()


def _counters(metrics_url: str) -> tuple[int, int]:
    """How many rows were spooled and how many of them the database has."""
    with urllib.request.urlopen(metrics_url, timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return (
        int(float(values["mlops_spool_recorded_total"])),
        int(float(values["mlops_spool_shipped_total"])),
    )
