"""The continuous generator: at its rate, until told to stop, through crashes of its database."""

import re
import signal
import threading
from datetime import timedelta

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.data_ingestion.generator import stream_batches
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
from tests.end_to_end.commands import Project, finish
from tests.pipelines.data_ingestion.observations import numbered_observations
from tests.servers import ExternalPostgres, eventually, query, scalar

LEDGER = """
SELECT (SELECT count(*) FROM iris_data), coalesce(sum(row_count), 0), count(*),
       count(DISTINCT content_sha256), count(DISTINCT source),
       bool_and((SELECT count(*) FROM iris_data WHERE id BETWEEN first_id AND last_id) = row_count)
FROM ingestion_batches
"""


@pytest.mark.integration
def test_it_waits_until_the_next_batch_is_due_or_it_is_told_to_stop(
    database_url: str, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    rows, stopping = numbered_observations(contract, 100), threading.Event()
    ingestion, every = IngestionOptions(source="test"), timedelta(hours=1)
    threading.Timer(1, stopping.set).start()

    assert stream_batches(rows, contract, ingestion, stopping, size=3, every=every) == 3
    assert scalar(database_url, "SELECT count(*) FROM iris_data") == 3


def rows_at(url: str) -> int:
    if scalar(url, "SELECT to_regclass('iris_data')") is None:
        return 0
    return int(scalar(url, "SELECT count(*) FROM iris_data"))


@pytest.mark.end_to_end
def test_neither_a_crash_of_the_server_nor_its_own_end_loses_or_doubles_a_row(
    project: Project, external_server: ExternalPostgres
) -> None:
    url = external_server.create_database()
    other = Project(project.folder, {"DATABASE_URL": url.replace("+psycopg2", "")})
    process = other.start("stream", "--rows", "2", "--every", "5ms")
    assert eventually(lambda: rows_at(url) > 50)
    external_server.stop("immediate")
    external_server.start()
    seen = rows_at(url)
    assert eventually(lambda: rows_at(url) > seen)
    external_server.stop("immediate")
    try:
        process.send_signal(signal.SIGINT)
        finished = finish(process)
    finally:
        external_server.start()

    assert finished.code == 0, finished.text
    assert "Traceback" not in finished.text
    assert "Retrying" in finished.errors
    told = re.search(r"Stopped after (\d+) row\(s\)\.", finished.output)
    ((rows, ledger, batches, distinct, streams, complete),) = query(url, LEDGER)
    assert rows == ledger
    # Of the batch that was under way when it was stopped the stream does not know the outcome.
    assert told is not None
    assert int(told[1]) in (rows, rows - 2)
    assert (batches, distinct, streams, complete) == (rows // 2, rows // 2, 1, True)
    external_server.drop_database(url)
    assert project.leaves_nothing_running(), project.processes()
