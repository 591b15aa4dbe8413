"""From an unseen CSV file to a prediction, with nothing reviewed and no code touched."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.api import predict, served
from tests.end_to_end.commands import Project
from tests.mixed_rows import TARGET, mixed_rows

pytestmark = pytest.mark.end_to_end

ROWS = int(os.environ.get("OWN_TABLE_ROWS", "1500"))
INFER = ("contract", "infer", "--target", TARGET, "--name", "orders", "--env", "new")


@pytest.fixture(scope="module")
def csv_file(project: Project) -> Path:
    path = project.folder / "orders.csv"
    mixed_rows(ROWS).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module", autouse=True)
def run(project: Project, csv_file: Path) -> str:
    """What `kedro run --env new` says, after the inference alone."""
    project.succeed(*INFER, "--csv", str(csv_file))
    return project.succeed("run", "--env", "new").output


def row_of(csv_file: Path, contract: dict[str, Any], place: int = 0) -> dict[str, Any]:
    """A row of the file as a client would send it: typed, without the columns left out."""
    text = mixed_rows(ROWS).iloc[place]
    readers: dict[str, Any] = {"integer": int, "float": float, "boolean": lambda one: one == "true"}
    return {
        name: readers.get(feature["type"], str)(text[name]) if text[name] else None
        for name, feature in contract["features"].items()
    }


def test_the_run_ingests_every_row_and_deploys(run: str) -> None:
    assert f"{ROWS} in orders_data, 0 rejected" in run
    assert "orders-v1-" in run


def test_the_model_learned_something(project: Project, run: str) -> None:
    del run
    ((release,),) = project.query("SELECT release FROM deployments")
    manifest = json.loads(
        (project.folder / "data/releases/orders" / release / "manifest.json").read_text("utf-8")
    )
    assert manifest["model"]["metrics"]["validation_roc_auc"] > 0.75


def test_a_row_of_the_file_is_predicted(project: Project, csv_file: Path) -> None:
    with served(project, "--env", "new") as client:
        contract = client.get("/model").json()["contract"]
        answer = predict(client, row_of(csv_file, contract))

    assert answer[TARGET] in {"yes", "no"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_an_existing_environment_is_not_overwritten_unless_forced(
    project: Project, csv_file: Path
) -> None:
    path = project.folder / "conf/new/parameters_contract.yml"
    path.write_text("# reviewed\n" + path.read_text("utf-8"), "utf-8")

    said = project.refuse(*INFER, "--csv", str(csv_file))

    assert "conf/new has parameters_contract.yml" in said
    assert "--force" in said
    assert path.read_text("utf-8").startswith("# reviewed")
    project.succeed(*INFER, "--csv", str(csv_file), "--force")
    assert not path.read_text("utf-8").startswith("# reviewed")


def test_a_table_of_the_database_can_be_inferred_from(project: Project) -> None:
    name = ("contract", "infer", "--target", TARGET, "--name", "again")

    said = project.succeed(*name, "--table", "orders_data").output

    assert f"{ROWS:,} from table orders_data" in said
    assert (project.folder / "conf/again/parameters_contract.yml").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--csv", "nowhere.csv", "--name", "x"), "nowhere.csv: there is no such file"),
        (("--csv", "orders.csv", "--name", "iris"), "conf/base has a contract 'iris' already"),
        (("--csv", "orders.csv", "--name", "x", "--env", "base"), "conf/base is the shipped"),
        (("--csv", "orders.csv", "--name", "x", "--env", "../x"), "--env: expected letters"),
        (("--csv", "orders.csv", "--name", "Big Name"), "contract.name: allowed are"),
        (("--table", "nowhere", "--name", "x"), "nowhere"),
        (("--query", "SELEKT 1", "--name", "x"), "syntax error"),
    ],
    ids=["no file", "taken name", "base", "path", "bad name", "no table", "bad query"],
)
def test_a_request_that_cannot_be_met_is_refused_and_writes_nothing(
    project: Project, csv_file: Path, options: tuple[str, ...], said: str
) -> None:
    del csv_file
    assert said in project.refuse("contract", "infer", "--target", TARGET, *options)
    assert not (project.folder / "conf/x").exists()
