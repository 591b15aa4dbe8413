"""`kedro stream`: stops when told to, and outlives its database without losing a row."""

import re
import signal
import subprocess

import pytest

from tests.end_to_end.commands import Finished, Project, finish
from tests.servers import ExternalPostgres, eventually, query

pytestmark = pytest.mark.end_to_end

LEDGER = """
SELECT (SELECT count(*) FROM iris_data), coalesce(sum(row_count), 0), count(*),
       count(DISTINCT content_sha256), count(DISTINCT source),
       bool_and((SELECT count(*) FROM iris_data WHERE id BETWEEN first_id AND last_id) = row_count)
FROM ingestion_batches
"""


def written(finished: Finished) -> int:
    match = re.search(r"Stopped after (\d+) row\(s\)\.", finished.output)
    assert match is not None, finished.text
    return int(match[1])


def stop(process: "subprocess.Popen[str]", number: signal.Signals) -> Finished:
    process.send_signal(number)
    finished = finish(process, seconds=30)
    assert finished.code == 0, finished.text
    assert "Traceback" not in finished.text
    return finished


def rows_at(url: str) -> int:
    if query(url, "SELECT to_regclass('iris_data') IS NULL") == [(True,)]:
        return 0
    return int(query(url, "SELECT count(*) FROM iris_data")[0][0])


def test_sigint_stops_it_and_every_row_that_it_counts_is_there(project: Project) -> None:
    with project.held() as url:
        process = project.start("stream", "--rows", "3", "--every", "50ms")
        assert eventually(lambda: rows_at(url) >= 30, seconds=60)
        count = written(stop(process, signal.SIGINT))
        assert query(url, LEDGER) == [(count, count, count // 3, count // 3, 1, True)]


def test_crashes_of_an_external_server_lose_and_double_nothing(
    project: Project, external_server: ExternalPostgres
) -> None:
    url = external_server.create_database()
    other = Project(project.folder, {"DATABASE_URL": url.replace("+psycopg2", "")})
    process = other.start("stream", "--rows", "2", "--every", "5ms")
    assert eventually(lambda: rows_at(url) > 50, seconds=60)
    for _ in range(2):
        external_server.stop("immediate")
        external_server.start()
        seen = rows_at(url)
        assert eventually(lambda seen=seen: rows_at(url) > seen, seconds=30)
    external_server.stop("immediate")
    try:
        finished = stop(process, signal.SIGTERM)
    finally:
        external_server.start()

    count = written(finished)
    ((rows, ledger, batches, distinct, streams, complete),) = query(url, LEDGER)
    assert "the database does not answer" in finished.errors
    assert rows == ledger
    # Of the batch that was under way when it was stopped the stream does not know the outcome.
    assert count in (rows, rows - 2)
    assert (batches, distinct, streams, complete) == (rows // 2, rows // 2, 1, True)
    external_server.drop_database(url)
    assert project.leaves_nothing_running(), project.processes()
