"""Runs of the pipeline on a CSV file: its bad rows are rejects, and each row is there once."""

from pathlib import Path
from typing import Any

import pytest

from mlops_for_mle.errors import SourceError
from tests.expectations import refused
from tests.projects import run_session
from tests.servers import query

pytestmark = pytest.mark.integration

HEADER = "sepal_length,sepal_width,petal_length,petal_width,target\n"
GOOD = "5.1,3.5,1.4,0.2,0\n6.7,3.3,5.7,2.1,2\n5.9,3.0,4.2,1.5,1\n"
COUNTS = """
SELECT (SELECT count(*) FROM iris_data), (SELECT count(*) FROM rejected_rows),
       (SELECT count(*) FROM ingestion_batches)
"""


@pytest.fixture
def folder(project_folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project on a database of its own."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (project_folder / "unused").as_uri())
    monkeypatch.setenv("MLOPS_PROJECT_PATH", str(project_folder))
    monkeypatch.chdir(project_folder)
    return project_folder


def ingest(folder: Path, content: str, **parameters: Any) -> None:
    (folder / "rows.csv").write_text(content)
    run_session(folder, "data_ingestion", source="csv", csv_path="rows.csv", **parameters)


def test_bad_rows_are_rejected_with_their_reasons_and_the_good_ones_are_kept(
    folder: Path, database_url: str
) -> None:
    with refused(SourceError) as refusal:
        ingest(folder, HEADER + "5.1,3.5,1.4,0.2,0,9,9\n")
    assert "line 2: has 7 field(s), expected 5" in refusal.message
    assert query(database_url, COUNTS) == [(0, 0, 0)]

    ingest(folder, f"{HEADER}{GOOD}tall,3.5,1.4,0.2,0\n5.1,3.5,1.4,0.2,3\n5.1,3.5,1.4\n")

    assert query(database_url, COUNTS) == [(3, 3, 1)]
    rejects = "SELECT row_number, source, reason, row_data ->> 'line' FROM rejected_rows"
    no_number = "sepal_length: is no number, found 'tall'; allowed is a number from 0.1 to 30"
    unknown = "target: is no known category, found '3'; allowed is one of 0, 1, 2"
    assert query(database_url, f"{rejects} ORDER BY id") == [
        (4, "csv", no_number, None),
        (5, "csv", unknown, None),
        (6, "csv", "line 7: has 3 field(s), expected 5", "5.1,3.5,1.4"),
    ]


def test_a_file_that_is_read_in_a_corrected_form_doubles_no_row(
    folder: Path, database_url: str
) -> None:
    content = (HEADER + GOOD + "5;3;1;1;0\n").replace(",", ";").replace(".", ",")
    ingest(folder, content, csv_separator="semicolon", ingestion={"maximum_rejected_fraction": 1})
    assert query(database_url, COUNTS) == [(1, 3, 1)]
    for _ in range(2):
        ingest(folder, content, csv_separator="semicolon", ingestion={"decimal": "comma"})
        assert query(database_url, COUNTS) == [(4, 0, 1)]
