"""`make clean` after real runs: all that they wrote goes, and nothing else."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.api import predict, served
from tests.end_to_end.commands import Project
from tests.projects import copy_project
from tests.servers import reachable_folder

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]
VIRGINICA = {"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}
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


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """Has files of a person."""
    folder = reachable_folder("clean-")
    copy_project(ROOT, folder)
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/clean.sh", folder / "scripts")
    (folder / ".venv").symlink_to(sys.prefix)
    for name in OF_A_PERSON:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "src/__pycache__").mkdir()
    yield Project(folder)
    shutil.rmtree(folder)


def _files(project: Project) -> set[str]:
    return {
        str(path.relative_to(project.folder))
        for path in project.folder.rglob("*")
        if not path.is_dir() and path.suffix not in {".log", ".lock"}
    }


def _clean(project: Project) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [project.folder / "scripts/clean.sh"],
        cwd="/",
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_removes_what_the_runs_wrote_and_nothing_of_a_person(project: Project) -> None:
    before = _files(project)
    project.succeed("run")
    project.succeed("run", "--env", "wine")
    project.succeed("run", "--pipeline", "scoring")
    with served(project) as client:
        predict(client, VIRGINICA)
        project.succeed("run", "--pipeline", "monitoring")
        written = _files(project)
        refused = _clean(project)
        assert refused.returncode == 1
        assert "A process uses the embedded server" in refused.stderr
        assert _files(project) >= written
    assert project.leaves_nothing_running()
    environment = project.folder / ".venv"
    environment.unlink()
    assert "data/postgres is kept: call make setup" in _clean(project).stderr
    assert any(name.startswith("data/postgres/") for name in _files(project))
    environment.symlink_to(sys.prefix)
    cleaned = _clean(project)
    assert (cleaned.returncode, cleaned.stderr) == (0, "")
    assert _files(project) == before
    assert not (project.folder / "src/__pycache__").exists()
    assert not (project.folder / "data/diabetes").exists()


def test_it_has_nothing_to_do_a_second_time(project: Project) -> None:
    before = _files(project)
    assert _clean(project).returncode == 0
    assert _files(project) == before
