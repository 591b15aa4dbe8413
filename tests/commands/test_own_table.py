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
    assert manifest["metrics"]["validation_roc_auc"] > 0.75


def test_a_row_of_the_file_is_predicted(project: Project, csv_file: Path) -> None:
    with served(project, "--env", "new") as client:
        contract = client.get("/model").json()["contract"]
        answer = predict(client, row_of(csv_file, contract))

    assert answer[TARGET] in {"yes", "no"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
