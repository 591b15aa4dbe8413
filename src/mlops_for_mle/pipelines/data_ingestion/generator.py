"""The continuous generator: writes small batches at a steady rate, each exactly once."""

import hashlib
import itertools
import logging
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pandas as pd
from sqlalchemy.exc import OperationalError

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.data_ingestion.datasets import write_batch
from mlops_for_mle.pipelines.data_ingestion.nodes import Batch, validate
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions

_LOGGER = logging.getLogger(__name__)
_LONGEST_WAIT = 15.0


def stream_batches(
    contract_rows: pd.DataFrame,
    contract: Contract,
    ingestion: IngestionOptions,
    wait: Callable[[float], bool],
    *,
    size: int,
    every: timedelta,
    batches: int | None = None,
    seed: int | None = None,
) -> int:
    """Write batches of random rows of these, until stopped; gives how many rows were written.

    Args:
        contract_rows: What is drawn from with replacement, as ``to_contract`` gives it.
        contract: Names the table.
        ingestion: How rows are validated.
        wait: Sleeps for some seconds, or until the stream is to end; says whether it is.
        size: Rows a batch.
        every: Time between the starts of two batches.
        batches: Stop after so many.
        seed: Fixes which rows are drawn.
    """
    stream, random = f"stream {uuid.uuid4().hex}", np.random.default_rng(seed)
    options = ingestion.model_copy(update={"source": stream})
    written, due = 0, time.monotonic()
    for number in itertools.count() if batches is None else range(batches):
        if wait(max(0.0, due - time.monotonic())):
            break
        state = int(random.integers(2**32))
        rows = contract_rows.sample(size, replace=True, random_state=state, ignore_index=True)
        identity = hashlib.sha256(f"{stream}/{number}".encode()).hexdigest()
        batch = validate(rows, identity, {}, contract, options)
        if not _write_until_known(contract, batch, wait):
            break
        written += len(batch.accepted)
        due = max(due + every.total_seconds(), time.monotonic())
    return written


def _write_until_known(contract: Contract, batch: Batch, wait: Callable[[float], bool]) -> bool:
    """Write a batch again while its outcome is unknown; False when stopped before it was known."""
    seconds = 0.2
    while True:
        try:
            write_batch(engine_for(database_url()), contract, batch)
        except (OperationalError, UserError) as error:
            reason = " ".join(str(getattr(error, "orig", error)).split())[:200]
            _LOGGER.warning("the database does not answer: %s; next try in %.1f s", reason, seconds)
        else:
            return True
        if wait(seconds):
            return False
        seconds = min(seconds * 2, _LONGEST_WAIT)
