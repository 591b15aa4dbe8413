"""Runs and streams as commands: bad rows are rejects, and each row is there once, whatever ends."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops_for_mle.errors import UserError
from tests.end_to_end.commands import Project, finish
from tests.expectations import refused
from tests.projects import invoke, run_session
from tests.servers import eventually, query, scalar

HEADER = "sepal_length,sepal_width,petal_length,petal_width,target\n"
GOOD = "5.1,3.5,1.4,0.2,0\n6.7,3.3,5.7,2.1,2\n5.9,3.0,4.2,1.5,1\n"
COUNTS = """
SELECT (SELECT count(*) FROM iris_data), (SELECT count(*) FROM rejected_rows),
       (SELECT count(*) FROM ingestion_batches)
"""
LEDGER = """
SELECT (SELECT count(*) FROM iris_data), coalesce(sum(row_count), 0), count(*),
       count(DISTINCT content_sha256), count(DISTINCT source),
       bool_and((SELECT count(*) FROM iris_data WHERE id BETWEEN first_id AND last_id) = row_count)
FROM ingestion_batches
"""


@pytest.fixture
def folder(project_folder, database_url, monkeypatch) -> Path:
    """A project on a database of its own."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (project_folder / "unused").as_uri())
    monkeypatch.setenv("MLOPS_PROJECT_PATH", str(project_folder))
    monkeypatch.chdir(project_folder)
    return project_folder


def ingest(folder: Path, content: str, **parameters: Any) -> None:
    (folder / "rows.csv").write_text(content)
    run_session(folder, "data_ingestion", source="csv", csv_path="rows.csv", **parameters)


def test_the_package_runs_with_the_conf_of_the_folder_it_is_called_in(
    folder, database_url, monkeypatch, tmp_path
):
    monkeypatch.delenv("MLOPS_PROJECT_PATH")
    shutil.copytree(folder / "conf", tmp_path / "conf")

    command = [sys.executable, "-m", "mlops_for_mle", "--pipeline", "data_ingestion"]
    subprocess.run(command, cwd=tmp_path, check=True)

    assert query(database_url, COUNTS) == [(150, 0, 1)]
    assert (tmp_path / "data/02_intermediate").is_dir()


def test_bad_rows_are_rejected_with_their_reasons_and_the_good_ones_are_kept(folder, database_url):
    with refused(UserError, "line 2: has 7 field(s), expected 5"):
        ingest(folder, HEADER + "5.1,3.5,1.4,0.2,0,9,9\n")
    assert query(database_url, COUNTS) == [(0, 0, 0)]

    odd = "큰 \\u0000 \\."
    bad = ["tall,3.5,1.4,0.2,0", f"5.1,3.5,{odd},0.2,3", "5.1,3.5,1.4", "5.1,3,\0,0.2,0"]
    ingest(folder, HEADER + 2 * GOOD + "\n".join(bad))

    assert query(database_url, COUNTS) == [(6, 4, 1)]
    read = "coalesce(row_data ->> 'line', row_data ->> 'petal_length')"
    number = "is no number, found {!r}; allowed is a number from 0.1 to 30".format
    unknown = "target: is no known category, found '3'; allowed is one of 0, 1, 2"
    assert query(database_url, f"SELECT row_number, reason, {read} FROM rejected_rows") == [
        (7, f"sepal_length: {number('tall')}", "1.4"),
        (8, f"petal_length: {number(odd)}. {unknown}", odd),
        (9, "line 10: has 3 field(s), expected 5", "5.1,3.5,1.4"),
        (10, "line 11: holds NUL bytes", "5.1,3,�,0.2,0"),
    ]
    facts = (
        "SELECT DISTINCT batch_id = (SELECT id FROM ingestion_batches), table_name, source, "
        "now() - created_at < interval '1 minute' FROM rejected_rows"
    )
    assert query(database_url, facts) == [(True, "iris_data", "csv", True)]
    assert not (folder / "unused").exists(), "it logs nothing"


def test_a_file_that_is_read_in_a_corrected_form_doubles_no_row(folder, database_url):
    content = (HEADER + GOOD + "5;3;1;1;0\n").replace(",", ";").replace(".", ",")
    ingest(folder, content, csv_separator="semicolon", ingestion={"maximum_rejected_fraction": 1})
    assert query(database_url, COUNTS) == [(1, 3, 1)]
    formats = {name: {"decimal": ","} for name in HEADER.split(",")[:4]}
    for _ in range(2):
        corrected = {"number_formats": formats}
        ingest(folder, content, csv_separator="semicolon", ingestion=corrected)
        assert query(database_url, COUNTS) == [(4, 0, 1)]


def test_a_csv_file_is_drawn_from_by_its_rows_that_can_be_read_wherever_one_stands(
    folder, database_url, monkeypatch
):
    """Nor is its path another one than that of a run."""
    (folder / "conf/local/globals.yml").write_text("source: csv\ncsv_path: rows.csv\n")
    good, tall = ["4,3,1,1,0", "5,3,1,1,1"], "tall,3,1,1,2"
    lines = ["1,2", good[0], "", "1,2,3,4,5,6", good[1], tall, '"6,3,1,1,2']
    (folder / "rows.csv").write_text(HEADER + "\n".join(lines))
    monkeypatch.chdir(folder / "conf")
    draw = ("stream", "--rows", "20", "--every", "1ms", "--batches", "5", "--seed", "1")

    told = invoke(folder, *draw).output

    ((written, rejected, batches),) = query(database_url, COUNTS)
    assert (written + rejected, batches) == (100, 5)
    assert f"Stopped after {written} row(s); {rejected} others were rejected, see table" in told
    distinct = "SELECT DISTINCT sepal_length FROM iris_data ORDER BY 1"
    assert query(database_url, distinct) == [(4,), (5,)]
    bad = "SELECT DISTINCT row_data ->> 'sepal_length' FROM rejected_rows"
    assert query(database_url, bad) == [("tall",)]


def rows_at(url: str) -> int:
    if scalar(url, "SELECT to_regclass('iris_data')") is None:
        return 0
    return int(scalar(url, "SELECT count(*) FROM iris_data"))


@pytest.mark.end_to_end
def test_neither_a_crash_of_the_server_nor_its_own_end_loses_or_doubles_a_row(
    project, external_server, external_url
):
    url = external_url
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
    assert project.leaves_nothing_running(), project.processes()
