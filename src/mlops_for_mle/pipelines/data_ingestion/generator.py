"""The continuous generator: writes small batches at a steady rate, each exactly once."""

import secrets
import time
from datetime import timedelta
from itertools import count, islice
from logging import WARNING, getLogger
from threading import Event

import numpy as np
import pandas as pd
import tenacity
from sqlalchemy.exc import OperationalError

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.pipelines.data_ingestion.datasets import write_batch
from mlops_for_mle.pipelines.data_ingestion.nodes import IngestionOptions, validate


def stream_batches(
    contract_rows: pd.DataFrame,
    contract: Contract,
    ingestion: IngestionOptions,
    stopping: Event,
    *,
    size: int,
    every: timedelta,
    batches: int | None = None,
    seed: int | None = None,
) -> tuple[int, int]:
    """Write batches of random rows, until stopped; gives how many were written and rejected.

    Rows are drawn with replacement from ``contract_rows``, as ``to_contract`` gives them, in
    batches of ``size``; between the starts of two batches passes the time ``every``.
    """
    stream, random = f"stream {secrets.token_hex(16)}", np.random.default_rng(seed)
    options = ingestion.model_copy(update={"source": stream})

    # A batch whose outcome is unknown is simply written again: the ledger knows it.
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(OperationalError),
        wait=tenacity.wait_exponential(multiplier=0.2, max=15),
        sleep=tenacity.sleep_using_event(stopping),
        stop=tenacity.stop_when_event_set(stopping),
        before_sleep=tenacity.before_sleep_log(getLogger(__name__), WARNING),
        retry_error_callback=lambda state: None,
    )
    written, rejected, due = 0, 0, time.monotonic()
    for _ in islice(count(), batches):
        if stopping.wait(max(0.0, due - time.monotonic())):
            break
        rows = contract_rows.sample(size, replace=True, random_state=random, ignore_index=True)
        batch = validate(rows, secrets.token_hex(32), {}, contract, options)
        if retrying(write_batch, engine_for(database_url()), contract, batch) is None:
            break
        written += len(batch.accepted)
        rejected += len(batch.rejected)
        due = max(due + every.total_seconds(), time.monotonic())
    return written, rejected
