"""Each shipped environment: the whole line, its own table and release, the API, a prediction.

They share one project, one database and one MLflow store, as a person's environments would, and
`make clean` then removes all that they wrote.
"""

import shutil
import subprocess
import sys
from typing import Any

import pandas as pd
import pytest
import yaml

from mlops_for_mle.contract import Contract
from tests import PROJECT
from tests.end_to_end.commands import Project
from tests.end_to_end.conftest import served
from tests.expectations import run
from tests.serving.conftest import ServerProcess

pytestmark = pytest.mark.end_to_end

# What `kedro run --env` says of each: its rows, and the metric of its gate.
SAID = {
    "wine": ("178 in wine_data", "macro_f1 0.9"),
    "diabetes": ("442 in diabetes_data", "rmse 5"),
    "subscriptions": ("600 in subscriptions_data", "balanced_accuracy 0.7"),
}
COUNTS = """
SELECT (SELECT count(*) FROM {env}_data), (SELECT count(*) FROM {env}_prediction),
       (SELECT count(*) FROM scoring_queue), (SELECT count(*) FROM scoring_rejects)
"""
IDLE = {"자동결제": False, "마지막 접속": "2026-04-05T09:00:00", "월 시청시간": 0.0, "문의 횟수": 5}
UNKNOWN = {"지역": "울릉도", "나이": None, "마지막 접속": None}

OF_A_PERSON = [
    "data/sales.csv",
    "data/01_raw/observations.csv",
    "data/02_intermediate/joined.parquet",
    "data/05_model_input/snapshots.csv",
    "data/07_model_output/march.parquet",
    "data/08_reporting/my metrics.json",
    "data/wine/notes.txt",
    "data/mine/05_model_input/snapshot.parquet",
    "conf/local/globals.yml",
    "mlruns/0/meta.yaml",
    "mlflow.db",
    "dist/report.html",
    ".env",
]


@pytest.fixture(scope="module", autouse=True)
def before(project):
    """The files that are there before anything runs, some of a person among them."""
    (project.folder / "data/01_raw").mkdir(parents=True)
    shutil.copy(PROJECT / "data/01_raw/subscriptions.csv", project.folder / "data/01_raw")
    shutil.copytree(PROJECT / "scripts", project.folder / "scripts")
    (project.folder / ".venv").symlink_to(sys.prefix)
    for name in OF_A_PERSON:
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).touch()
    return files(project)


@pytest.fixture
def held(project):
    """Commands find the server running, which test_whole_line has them start and stop."""
    with project.held():
        yield


def files(project: Project) -> set[str]:
    found = (path for path in project.folder.rglob("*") if not path.is_dir())
    return {str(path) for path in found if path.suffix not in {".log", ".lock"}}


def clean(project: Project) -> "subprocess.CompletedProcess[str]":
    return run(project.folder / "scripts/clean.sh", cwd="/", env=project.environment)


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("env", SAID)
def test_an_example_is_trained_served_monitored_and_scored_without_a_line_of_code(project, env):
    said = project.succeed("run", "--env", env).output
    rows, metric = SAID[env]
    for part in (f"{rows}, 0 rejected", metric, f"{env}-v1-", f"kedro serve --env {env}"):
        assert part in said

    with served(project, "--env", env) as client:
        first = _give_true_labels(client, project, env)
        if env == "subscriptions":
            _ask_for_subscribers(client, first)
    said = project.succeed("run", "--env", env, "--pipeline", "monitoring").output
    assert "labels   120 predictions" in said
    assert "insufficient" not in said
    assert "missing" not in said

    project.succeed("score", "--env", env, "--from-start")
    ((row_count, scored, waiting, rejected),) = project.query(COUNTS.format(env=env))
    assert (scored, waiting, rejected) == (row_count, 0, 0)
    project.succeed("run", "--env", env, "--pipeline", "scoring")
    output = project.folder / f"data/{env}/07_model_output/predictions.parquet"
    assert len(pd.read_parquet(output)) == row_count


def test_clean_removes_all_that_was_written_and_nothing_of_a_person(project, before):
    project.succeed("run")
    project.succeed("run", "--pipeline", "scoring")
    (project.folder / "src/__pycache__").mkdir()
    with project.held():
        written = files(project)
        refused = clean(project)
        assert (refused.returncode, files(project)) == (1, written)
        assert "A process uses the embedded server" in refused.stderr
    environment = project.folder / ".venv"
    environment.rename(environment.with_name("elsewhere"))
    assert "data/postgres is kept: call make setup" in clean(project).stderr
    assert project.home.joinpath("pgdata").exists()
    environment.with_name("elsewhere").rename(environment)

    for _ in range(2):
        cleaned = clean(project)
        assert (cleaned.returncode, cleaned.stderr) == (0, "")
        assert files(project) == before
    assert not (project.folder / "src/__pycache__").exists()
    assert not (project.folder / "data/diabetes").exists()


def _give_true_labels(client: ServerProcess, project: Project, env: str) -> dict[str, Any]:
    """Have rows of the table predicted, and tell what they really were; gives the first row."""
    text = (project.folder / f"conf/{env}/contract.yml").read_text("utf-8")
    contract = Contract.model_validate(yaml.safe_load(text)["contract"])
    rows = client.get("/observations", params={"limit": 120}).json()["observations"]
    given = [{name: row[name] for name in contract.features} for row in rows]
    for row, answer in zip(rows, client.predict(given), strict=True):
        label = row[contract.target.column]
        told = {"prediction_id": answer["prediction_id"], "label": label}
        assert client.post("/feedback", json=told).status_code < 300
    return given[0]


def _ask_for_subscribers(client: ServerProcess, first: dict[str, Any]) -> None:
    for changes, answer, label in (
        ({}, "아니오", "유지"),
        (IDLE, "예", "해지"),
        (UNKNOWN, "아니오", "유지"),
    ):
        found = client.predict(first | changes)
        assert (found["해지"], found["label"]) == (answer, label)
        assert sum(found["probabilities"].values()) == pytest.approx(1)
    refused = client.post("/predict", json=first | {"요금제": "골드"})
    assert refused.status_code == 422
    assert "골드" in refused.text
    assert "베이직" in refused.text
