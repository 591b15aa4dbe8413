"""`kedro contract infer` on real files, a real database and real folders."""

import gzip
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from mlops_for_mle.commands.project import read_project
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.pipelines.data_ingestion.nodes import IngestionOptions, to_contract, validate
from mlops_for_mle.pipelines.data_ingestion.sources import FileSourceDataset
from tests import PROJECT
from tests.mixed import TARGET, orders
from tests.projects import copy_project, invoke
from tests.servers import query

ROWS = 400
COLUMNS = ["price", "zip", "channel", TARGET]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with the shipped configuration and a CSV file, as the working folder."""
    copy_project(PROJECT, tmp_path)
    for example in ("wine", "diabetes", "subscriptions"):
        shutil.rmtree(tmp_path / "conf" / example)
    orders(ROWS)[COLUMNS].to_csv(tmp_path / "orders.csv", index=False)
    (tmp_path / "iris.data").write_text("5.1,3.5,setosa\n" * 30, "utf-8")
    monkeypatch.setenv("MLOPS_PROJECT_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def infer(
    folder: Path, kind: str = "csv", place: str = "orders.csv", code: int = 0, **changes: Any
) -> str:
    """What a person reads who succeeds, or who does not; an option that is True is a flag."""
    arguments = ["contract", "infer", f"--{kind}", place]
    for option, value in ({"target": TARGET, "name": "orders"} | changes).items():
        arguments += [f"--{option}"] if value is True else [f"--{option}", value]
    return invoke(folder, *arguments, code=code).output


def globals_of(folder: Path) -> Any:
    return yaml.safe_load((folder / "conf/orders/globals.yml").read_text("utf-8"))


def ingested(folder: Path) -> pd.DataFrame:
    """The rows that ingestion accepts of the file, as the environment says it."""
    project = read_project(folder, "orders")
    configuration, contract = project.configuration, project.contract
    entry = configuration["catalog"]["source_rows"]
    keys = entry.keys() & {"format", "filepath", "form", "sheet"}
    rows = FileSourceDataset(**{key: entry[key] for key in keys}).load()
    options = IngestionOptions.model_validate(configuration["parameters"]["ingestion"])
    return validate(*to_contract(rows, contract, options), contract, options).accepted


def test_a_sheet_of_a_workbook_is_a_source_like_csv(folder):
    with pd.ExcelWriter(folder / "orders.xlsx") as book:
        pd.DataFrame({"x": [1]}).to_excel(book, sheet_name="first", index=False)
        given = pd.read_csv("orders.csv", dtype={"zip": str})
        given.to_excel(book, sheet_name="두 번째", index=False)

    infer(folder, "excel", "orders.xlsx", sheet="두 번째")

    assert read_project(folder, "orders").contract.features["zip"].type == "category"
    assert len(ingested(folder)) == ROWS


def test_a_file_as_people_have_it_is_read_the_same_by_ingestion(folder):
    """Without a header, with blanks, marks of missing values and a separator too many."""
    lines = [
        f"{n % 7 if n % 9 else '?'}; {'서울' if n % 11 else 'NA'}; {n % 4 < 2}; {n % 50},5;"
        for n in range(ROWS)
    ]
    (folder / "people.gz").write_bytes(gzip.compress("\n".join(lines).encode("cp949")))

    infer(folder, place="people.gz", target="c2", **{"no-header": True, "missing": "NA"})

    found = globals_of(folder)
    assert (found["csv_encoding"], found["csv_separator"]) == ("cp949", "semicolon")
    assert found["csv_header"] is False
    ingestion = read_project(folder, "orders").parameters["ingestion"]
    assert ingestion["missing_marks"] == {"c0": ["?"], "c1": ["NA"]}
    accepted = ingested(folder)
    assert len(accepted) == ROWS
    assert accepted["c0"][:3].tolist() == [pd.NA, 1, 2]
    assert accepted["c1"].isna().sum() == len(range(0, ROWS, 11))
    assert accepted["c1"].dropna().unique().tolist() == ["서울"]
    assert accepted["c2"][:3].tolist() == ["True", "True", "False"]
    assert accepted["c3"].tolist() == [n % 50 + 0.5 for n in range(ROWS)]


@pytest.fixture
def shop(own_database_url, monkeypatch):
    """A database with a table of somebody else's, under a name that needs quotes."""
    monkeypatch.setenv("DATABASE_URL", own_database_url)
    query(own_database_url, 'CREATE SCHEMA "My Shop"')
    with engine_for(own_database_url).begin() as connection:
        rows = orders(ROWS)[COLUMNS].astype({"price": float})
        rows.to_sql("Orders", connection, schema="My Shop", index=False)


@pytest.mark.usefixtures("shop")
def test_a_table_or_a_query_becomes_an_environment(folder):
    where = "WHERE price > 0 AND channel LIKE '%'"
    for kind, place, described in (
        ("table", "My Shop.Orders", "table My Shop.Orders"),
        ("query", f'SELECT * FROM "My Shop"."Orders"\n{where}', "the query"),
    ):
        said = infer(folder, kind, place, force=True)

        assert said.startswith(f"Looking at {ROWS} rows of ")
        assert f"{ROWS} from {described}" in said
        assert globals_of(folder)[f"source_{kind}"] == place
        assert read_project(folder, "orders").contract.features["price"].type == "float"


def test_nothing_that_a_person_wrote_is_overwritten_unless_forced(folder):
    assert "kedro run --env orders" in infer(folder)
    assert globals_of(folder) == {
        "source": "csv",
        "csv_path": "orders.csv",
        "data_folder": "data/orders",
        "experiment": "orders",
    }
    reviewed = folder / "conf/orders/parameters.yml"
    reviewed.write_text("# reviewed\n" + reviewed.read_text("utf-8"), "utf-8")
    (folder / "conf/orders/contract.yml").unlink()
    (folder / "conf/local/contract.yml").write_text("contract:\n", "utf-8")

    said = infer(folder, code=1)

    assert "conf/orders has globals.yml, parameters.yml already" in said
    assert "overwrite with --force" in said

    assert reviewed.read_text("utf-8").startswith("# reviewed")
    assert not (folder / "conf/orders/contract.yml").exists()
    infer(folder, force=True)
    assert not reviewed.read_text("utf-8").startswith("# reviewed")


def test_a_request_that_cannot_be_met_is_refused_and_writes_nothing(folder):
    before = sorted(folder.rglob("*"))
    for request_of, said in (
        ({"place": "nowhere.csv"}, "No such file or directory"),
        ({"name": "iris"}, "--name: conf/base has a contract 'iris' already"),
        ({"env": "postgres"}, "no folder of the project's own in conf or data (found 'postgres')"),
        ({"env": "../new"}, "--env: expected letters from a to z, digits"),
        ({"place": "iris.data"}, "(it has 5.1, 3.5, setosa). If these are data, --no-header"),
    ):
        assert said in infer(folder, **request_of, code=1)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.usefixtures("shop")
def test_a_source_in_the_database_that_cannot_be_one_is_refused(folder, own_database_url):
    query(own_database_url, "CREATE TABLE orders_data (n int)")
    query(own_database_url, 'CREATE VIEW "My Shop".recent AS SELECT * FROM orders_data')
    # What the contract would write itself.
    itself = "write its rows into orders_data, which is what it reads"
    for kind, place, said in (
        ("table", "Nowhere", 'relation "Nowhere" does not exist'),
        ("query", "SELECT 1 AS a, 2 AS a, 3 AS y", "'a' more than once among its columns"),
        ("query", "SELECT * FROM public.orders_data", itself),
        ("table", "My Shop.recent", itself),
    ):
        shown = infer(folder, kind, place, code=1)
        assert said in shown
        assert "CONTEXT:" not in shown
    # What is wrong with it is told later: it is no pattern.
    said = infer(folder, "query", "SELECT 1 AS x", name="a(", env="orders", code=1)
    assert "has no column 'left?'" in said
    assert not (folder / "conf/orders").exists()
