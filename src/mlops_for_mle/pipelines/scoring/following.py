"""What scoring of arriving rows shares: the deployed release, the sink, patience, progress."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event
from typing import Any, NamedTuple

import pandas as pd
import psycopg2
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
)

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.tables import prediction_table, quoted, target_type
from mlops_for_mle.errors import PrerequisiteError, UserError, explain
from mlops_for_mle.pipelines.scoring.batches import loaded
from mlops_for_mle.pipelines.scoring.nodes import Scorer, as_json
from mlops_for_mle.releases.deployments import current

_LOOK_SECONDS = 1.0
_LOOK_SECONDS_AFTER_A_FAILURE = 60.0
_PASSING = (DBAPIError, psycopg2.Error, UserError, OSError)

_FACTS = "source text, source_id bigint, model_version int, release text"
_INSERT = """
INSERT INTO {table} (timestamp, {prediction}, source, source_id, row_key, model_version, release,
                     scored_at)
SELECT timestamp, prediction, source, source_id, row_key, model_version, release, clock_timestamp()
FROM jsonb_to_recordset(%s)
     AS given({facts}, timestamp timestamp, prediction {type}, row_key bigint)
ON CONFLICT (source, source_id) DO {again}
"""
_REPLACE = """
UPDATE SET timestamp = excluded.timestamp, {prediction} = excluded.{prediction},
           model_version = excluded.model_version, release = excluded.release,
           scored_at = excluded.scored_at
"""
_REJECT = """
INSERT INTO scoring_rejects (contract, source, source_id, model_version, release, reason, row_data)
SELECT %s, source, source_id, model_version, release, reason, row_data
FROM jsonb_to_recordset(%s) AS given({facts}, reason text, row_data jsonb)
ON CONFLICT (contract, source, source_id) DO {again}
"""
_REPLACE_REJECT = """
UPDATE SET release = excluded.release, model_version = excluded.model_version,
           reason = excluded.reason, row_data = excluded.row_data, created_at = now()
"""

_LOGGER = logging.getLogger(__name__)


class Arrived(NamedTuple):
    """A row or message that waits to be scored.

    Attributes:
        source: Where it comes from: a table's name, or a topic's and a partition's.
        source_id: Its number there: the row's key, or the message's offset.
        values: Its columns by name.
        timestamp: When it was observed, as text that Postgres reads.
        key: Its key in the table of observations, if it has any.
        fault: Why it cannot be read.
    """

    source: str
    source_id: int
    values: Any
    timestamp: str | None = None
    key: int | None = None
    fault: str | None = None


@dataclass
class Totals:
    """What was done so far, told now and then as long as there is anything to tell."""

    scored: int = 0
    rejected: int = 0
    every: timedelta = timedelta(seconds=10)
    _told: tuple[int, float] = field(default_factory=lambda: (0, time.monotonic()))

    def add(self, scored: int, rejected: int) -> None:
        """Count further predictions and rejects."""
        self.scored += scored
        self.rejected += rejected

    def tell(self, waiting: Callable[[], int] | None = None) -> bool:
        """Log a line if it is time for one; gives whether it was."""
        done, (before, since) = self.scored + self.rejected, self._told
        passed = time.monotonic() - since
        if passed < self.every.total_seconds():
            return False
        self._told = (done, time.monotonic())
        behind = "" if waiting is None else f" waiting={waiting()}"
        if done > before:
            _LOGGER.info(
                "scored=%d rejected=%d rate=%.0f/s%s",
                *(self.scored, self.rejected, (done - before) / passed, behind),
            )
        return True


class Deployed:
    """The release that was deployed last; one that cannot be loaded leaves the one before it."""

    def __init__(self, contract: Contract, store: str) -> None:
        """Name the contract and the release store."""
        self._contract = contract.name
        self._store = store
        self._scorer: Scorer | None = None
        self._look_at = 0.0

    def scorer(self, connection: Connection) -> Scorer:
        """Look whether another one was deployed, at most once a second, and load it.

        Raises:
            PrerequisiteError: Nothing is deployed.
            ReleaseError: It cannot be loaded, and there was none before it.
        """
        if self._scorer is not None and time.monotonic() < self._look_at:
            return self._scorer
        deployed = current(connection, self._contract)
        if deployed is None:
            raise PrerequisiteError(
                f"Contract {self._contract} was never deployed: run `kedro run` first."
            )
        self._look_at = time.monotonic() + _LOOK_SECONDS
        if self._scorer is None or deployed.release != self._scorer.manifest.release:
            try:
                self._scorer = loaded(self._store, self._contract, deployed.release)
            except Exception as error:
                # Each kind of store has its own errors.
                if self._scorer is None:
                    raise
                self._look_at = time.monotonic() + _LOOK_SECONDS_AFTER_A_FAILURE
                _LOGGER.warning(
                    "deployment %d cannot be used, %s goes on to score: %s",
                    *(deployed.id, self._scorer.manifest.release, explain(error)),
                )
            else:
                _LOGGER.info("release=%s scores", deployed.release)
        return self._scorer


class Sink:
    """Writes what became of rows, each once, in the caller's transaction."""

    def __init__(self, contract: Contract, *, replace: bool) -> None:
        """Prepare; ``replace`` says whether the last word on a row counts, or the first."""
        prediction = escaped(contract.target.response_name)
        self._contract = contract.name
        self._insert = _INSERT.format(
            table=escaped(prediction_table(contract)),
            prediction=prediction,
            type=target_type(contract),
            facts=_FACTS,
            again=_REPLACE.format(prediction=prediction) if replace else "NOTHING",
        )
        self._reject = _REJECT.format(facts=_FACTS, again=_REPLACE_REJECT if replace else "NOTHING")

    def score(
        self, connection: Connection, scorer: Scorer, rows: Sequence[Arrived]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Score rows and write their predictions and rejects; the caller commits.

        Returns:
            What was written, predictions and rejects.
        """
        features = list(scorer.manifest.contract.features)
        read = [one for one in rows if one.fault is None]
        values = [[one.values.get(name) for name in features] for one in read]
        scored = scorer.score(pd.DataFrame(values, columns=features, dtype=object))
        facts = {"model_version": scorer.manifest.version, "release": scorer.manifest.release}

        def record(one: Arrived, **more: Any) -> dict[str, Any]:
            return {"source": one.source, "source_id": one.source_id, **facts, **more}

        answered = zip(scored.positions, scorer.values(scored.answers), strict=True)
        predictions = [
            record(one, timestamp=one.timestamp, row_key=one.key, prediction=answer)
            for one, answer in ((read[position], answer) for position, answer in answered)
        ]
        faults = [(one, one.fault) for one in rows if one.fault is not None]
        faults += [(read[position], reason) for position, reason in scored.rejected.items()]
        rejects = [record(one, reason=reason, row_data=one.values) for one, reason in faults]
        if predictions:
            connection.exec_driver_sql(self._insert, (as_json(predictions),))
        if rejects:
            connection.exec_driver_sql(self._reject, (self._contract, as_json(rejects)))
            first = rejects[0]
            _LOGGER.warning(
                "%d rejected, see scoring_rejects; the first is %s, %d: %s",
                *(len(rejects), first["source"], first["source_id"], first["reason"]),
            )
        return predictions, rejects


def patiently(work: Callable[[], bool], stopping: Event, *passing: type[Exception]) -> bool:
    """Do some work again while it fails with what may pass: somebody is away, or not there yet.

    Args:
        work: Gives whether there is more to do.
        stopping: Ends the waiting.
        passing: What else may pass.

    Returns:
        What the work gave; False when the waiting was ended.
    """
    retrying = Retrying(
        retry=retry_if_exception_type((*_PASSING, *passing)),
        wait=wait_exponential(multiplier=0.2, max=15),
        sleep=sleep_using_event(stopping),
        stop=stop_when_event_set(stopping),
        before_sleep=_tell,
        retry_error_callback=lambda state: False,
    )
    return bool(retrying(work))


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    pause = state.next_action.sleep if state.next_action is not None else 0.0
    if error is not None:
        _LOGGER.warning("%s; tried again in %.1f s", " ".join(explain(error).split()), pause)


def escaped(name: str) -> str:
    """A quoted name for a statement that is executed with parameters, where % has a meaning."""
    return quoted(name).replace("%", "%%")
