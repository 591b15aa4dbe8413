"""Bad CSV files and parameters: a clear error or rejects, and never half of a file."""

from pathlib import Path
from typing import Any

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, SourceError
from tests.integration.expectations import refused
from tests.integration.projects import run_session
from tests.integration.servers import query

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


def ingest(folder: Path, content: bytes | str | None, **parameters: Any) -> None:
    path = folder / "rows.csv"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    run_session(folder, "data_ingestion", source="csv", csv_path="rows.csv", **parameters)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("", "is empty, expected CSV with a header line"),
        (HEADER, "has no rows"),
        (
            "sepal_length,target\n5.1,0\n",
            "missing column(s) sepal_width, petal_length, petal_width",
        ),
        ("wrong\n", "missing column(s) sepal_length"),
        (HEADER.replace("sepal_width", "sepal_length") + GOOD, "column(s) sepal_length twice"),
        (HEADER + "5.1,3.5,1.4,0.2,0,9,9\n", "Expected 5 fields in line 2, saw 7"),
        (HEADER + '5.1,"3.5,1.4,0.2,0\n', "is no well-formed CSV file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "expected a CSV file of text"),
        ("sepal_length,größe\n".encode("latin-1"), "is no UTF-8 text"),
        (HEADER.encode() + b"5.1,3.5,\x00,0.2,0\n", "holds NUL bytes"),
    ],
    ids=[
        *("missing", "empty", "header only", "missing columns", "another table", "column twice"),
        *("too many fields", "open quote", "binary", "another encoding", "NUL bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_nothing_is_written(
    folder: Path, database_url: str, content: bytes | str | None, message: str
) -> None:
    with refused(SourceError) as refusal:
        ingest(folder, content)
    assert message in refusal.message
    assert query(database_url, COUNTS) == [(0, 0, 0)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("tall,3.5,1.4,0.2,0", "sepal_length: not a number: 'tall'"),
        ("NaN,3.5,1.4,0.2,0", "sepal_length: not a number: 'NaN'"),
        (",3.5,1.4,0.2,0", "sepal_length: is missing"),
        ("inf,3.5,1.4,0.2,0", "sepal_length: is not finite, found inf"),
        ("99,3.5,1.4,0.2,0", "sepal_length: is above 30, found 99"),
        ("5.1,3.5,1.4,-0.2,0", "petal_width: is below 0.05, found -0.2"),
        ("5.1,3.5,1.4,0.2,3", "target: is none of 0 (setosa), 1 (versicolor), 2 (virginica)"),
        ("5.1,3.5,1.4,0.2,1.5", "target: is none of 0 (setosa), 1 (versicolor), 2 (virginica)"),
        ("5.1,3.5,1.4,0.2,setosa", "target: not a number: 'setosa'"),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason_and_the_good_ones_are_kept(
    folder: Path, database_url: str, row: str, reason: str
) -> None:
    ingest(folder, f"{HEADER}{GOOD}{row}\n")

    assert query(database_url, COUNTS) == [(3, 1, 1)]
    ((found, number, source),) = query(
        database_url, "SELECT reason, row_number, source FROM rejected_rows"
    )
    assert found.startswith(reason)
    assert (number, source) == (4, "csv")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ingestion": {"sorce": "csv"}}, "ingestion.sorce: unknown key; allowed: source, rename"),
        ({"training": {"validation_fraction": 1.5}}, "training.validation_fraction: "),
        ({"gates": {"minimum": 0.9}}, "gates.minimum: unknown key; allowed: metric, greater_is"),
        ({"gates": {"metric": "rmse"}}, "gates.metric: contract iris is a classification, allowed"),
        ({"contract": {"features": {"sepal_length": {"minimum": 40}}}}, "must be below maximum 30"),
        ({"row_limit": "abc"}, "row_limit: input should be a valid integer (found 'abc')"),
        ({"gate": {"metric": "macro_f1"}}, "gate: unknown among the parameters; did you mean ga"),
    ],
)
def test_a_wrong_parameter_stops_the_run_before_anything_is_written(
    folder: Path, database_url: str, parameters: dict[str, Any], message: str
) -> None:
    with refused(ConfigurationError) as refusal:
        run_session(folder, "data_ingestion", **parameters)
    assert message in refusal.message
    assert query(database_url, COUNTS) == [(0, 0, 0)]


def test_a_wrong_value_of_mlflows_file_is_named(folder: Path, database_url: str) -> None:
    path = folder / "conf/local/mlflow.yml"
    path.write_text("tracking: {experiment: {name: 5}}")
    try:
        with refused(ConfigurationError) as refusal:
            run_session(folder, "data_ingestion")
    finally:
        path.unlink()
    assert refusal.message.startswith("mlflow.tracking.experiment.name: input should be a valid")
    assert query(database_url, COUNTS) == [(0, 0, 0)]


def test_a_file_of_mostly_bad_rows_is_held_back_whole(folder: Path, database_url: str) -> None:
    ingest(folder, HEADER + GOOD + "x,1,1,1,0\n" * 4)
    assert query(database_url, COUNTS) == [(0, 7, 1)]


def test_the_same_file_is_ingested_once(folder: Path, database_url: str) -> None:
    ingest(folder, HEADER + GOOD)
    ingest(folder, "\ufeff" + HEADER + GOOD)
    assert query(database_url, COUNTS) == [(3, 0, 1)]


def test_a_file_that_is_ingested_again_after_its_contract_was_corrected_gives_the_rest(
    folder: Path, database_url: str
) -> None:
    content = HEADER + GOOD + "31,3.5,1.4,0.2,0\n99,3.5,1.4,0.2,0\n"
    ingest(folder, content)
    assert query(database_url, COUNTS) == [(3, 2, 1)]
    for _ in range(2):
        ingest(folder, content, contract={"features": {"sepal_length": {"maximum": 50}}})
        assert query(database_url, COUNTS) == [(4, 1, 1)]


def test_a_file_is_read_as_the_parameters_say_it_is_written(
    folder: Path, database_url: str
) -> None:
    content = (HEADER + GOOD).replace(",", ";")
    with refused(SourceError) as refusal:
        ingest(folder, content)
    assert "set csv_separator: semicolon in globals.yml" in refusal.message

    ingest(folder, content.encode("utf-16"), csv_separator="semicolon")

    assert query(database_url, COUNTS) == [(3, 0, 1)]


def test_columns_that_the_contract_does_not_know_are_left_out(
    folder: Path, database_url: str, contract: Contract
) -> None:
    lines = (HEADER + GOOD).splitlines()
    ingest(folder, "\n".join(f"note,{line}" for line in lines))
    found = query(database_url, "SELECT petal_width, target FROM iris_data ORDER BY id")
    assert found == [(0.2, 0), (2.1, 2), (1.5, 1)]
    assert len(contract.columns) == 5
