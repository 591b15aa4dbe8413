"""The continuous generator: writes small batches at a steady rate, each exactly once."""

import hashlib
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pandas as pd
import psycopg2
from sqlalchemy.exc import DBAPIError

from mlops_for_mle.contract import Contract
from mlops_for_mle.database import DatabaseUnavailableError, engine_for, normalise_url
from mlops_for_mle.datasets.batch_writer import write_batch
from mlops_for_mle.datasets.sources import sample
from mlops_for_mle.records import Batch
from mlops_for_mle.stop_signal import Stopping

_LOGGER = logging.getLogger(__name__)
_LONGEST_WAIT = 15.0


@dataclass(frozen=True)
class StreamPlan:
    """What is written and how fast.

    Attributes:
        rows: Rows a batch.
        every: Time between the starts of two batches.
        batch_limit: Stop after so many batches; None goes on until it is stopped.
        seed: Fixes which rows are drawn.
    """

    rows: int
    every: timedelta
    batch_limit: int | None
    seed: int | None


def stream_batches(
    contract: Contract,
    source_rows: pd.DataFrame,
    make_batch: Callable[[pd.DataFrame], Batch],
    find_database: Callable[[], str],
    plan: StreamPlan,
    stopping: Stopping,
) -> int:
    """Write batches until ``stopping`` is set or the limit is reached.

    A batch whose outcome is unknown, because the connection broke, is tried again under the same
    identity until the ledger has it: no row is lost or doubled.

    Args:
        contract: Names the table.
        source_rows: The rows that are drawn from, with replacement.
        make_batch: Turns drawn rows into a validated batch.
        find_database: Gives the database's URL; asked again after a failure.
        plan: What is written and how fast.
        stopping: Ends the stream after the batch that is under way.

    Returns:
        How many rows were written.
    """
    stream_id = uuid.uuid4().hex
    generator = np.random.default_rng(plan.seed)
    url = find_database()
    written, sequence, due = 0, 0, time.monotonic()
    while not stopping.is_set() and (plan.batch_limit is None or sequence < plan.batch_limit):
        rows = sample(source_rows, plan.rows, int(generator.integers(2**32)))
        identity = hashlib.sha256(f"{stream_id}/{sequence}".encode()).hexdigest()
        batch = replace(make_batch(rows), source=f"stream {stream_id}", content_sha256=identity)
        finished = _write_until_known(contract, batch, url, find_database, stopping)
        if finished is None:
            break
        url = finished
        written += len(batch.accepted)
        sequence += 1
        due = max(due + plan.every.total_seconds(), time.monotonic())
        stopping.wait(max(0.0, due - time.monotonic()))
    return written


def _write_until_known(
    contract: Contract,
    batch: Batch,
    url: str,
    find_database: Callable[[], str],
    stopping: Stopping,
) -> str | None:
    """Write a batch, trying again while the database is away.

    Returns:
        The URL that worked, or None when the stream was stopped before the outcome was known.
    """
    wait = 0.2
    while True:
        try:
            write_batch(engine_for(url), contract, batch)
        except (DBAPIError, psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            _LOGGER.warning(
                "the database does not answer (%s); trying again in %.1f s",
                " ".join(str(error).split())[:160],
                wait,
            )
        else:
            return url
        if stopping.wait(wait):
            return None
        wait = min(wait * 2, _LONGEST_WAIT)
        try:
            url = normalise_url(find_database(), "DATABASE_URL")
        except DatabaseUnavailableError as error:
            _LOGGER.warning("%s", error)
