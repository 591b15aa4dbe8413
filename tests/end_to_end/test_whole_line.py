"""`kedro run`, once and again, whole and in parts, in one project from the empty folder on."""

import json
import re

import numpy as np
import pytest

from mlops_for_mle.releases.predictor import load
from mlops_for_mle.releases.store import ReleaseStore
from tests.end_to_end.commands import Project, finish

pytestmark = pytest.mark.end_to_end

STATE = """
SELECT (SELECT count(*) FROM iris_data), (SELECT count(*) FROM ingestion_batches),
       (SELECT count(*) FROM rejected_rows), (SELECT count(*) FROM deployments),
       (SELECT model_version FROM deployments ORDER BY id DESC LIMIT 1)
"""

# Each takes from a tenth of a second to a second to import.
SPARED = {"hypothesis", "matplotlib", "onnx", "pyarrow.dataset", "skl2onnx", "sklearn", "skops"}


@pytest.fixture(scope="module", autouse=True)
def first_run(project: Project) -> str:
    """What the first `kedro run` of an empty project says, which a shell starts."""
    finished = finish(project.start("run"))
    assert finished.code == 0, finished.text
    return finished.output


def test_the_first_run_ends_with_a_summary(first_run: str) -> None:
    for said in (
        "150 in iris_data, 0 rejected",
        "version 1, validation accuracy 0.9",
        "promoted: validation accuracy 0.9",
        "better than a constant answer, 0.3333",
        "iris-v1-",
        "make serve",
    ):
        assert said in first_run
    assert len(first_run.strip().splitlines()) <= 12


def test_the_first_run_leaves_a_release_that_predicts(project: Project) -> None:
    assert project.query(STATE) == [(150, 1, 0, 1, 1)]
    ((release, run_id),) = project.query("SELECT release, run_id FROM deployments")

    fetched = ReleaseStore(str(project.folder / "data/releases")).fetch("iris", release)
    assert fetched.manifest.run_id == run_id
    assert release == f"iris-v1-{run_id[:8]}"
    assert fetched.manifest.metrics["validation_accuracy"] >= 0.93
    answer = load(fetched).predict(np.array([[6.7, 3.3, 5.7, 2.1]]))
    assert answer.values.tolist() == [2]


def test_a_second_run_doubles_no_row_and_decides_against_the_champion(project: Project) -> None:
    said = project.succeed("run").output

    assert "version 2, validation accuracy 0.9" in said
    assert "champion version 1 has 0.9" in said
    assert "no worse within the tolerance" in said
    assert project.query(STATE) == [(150, 1, 0, 2, 2)]
    assert project.leaves_nothing_running(), project.processes()


def test_an_ingestion_imports_nothing_that_only_others_need(project: Project) -> None:
    """So it starts fast; benchmarks/start_up.py measures how fast."""
    watched = Project(project.folder, {"PYTHONPROFILEIMPORTTIME": "1"})

    said = finish(watched.start("run", "--pipeline", "data_ingestion")).errors

    imported = set(re.findall(r"^import time:.*\| +(\S+)$", said, re.M))
    assert {"kedro.framework.cli", "pandas", "sqlalchemy"} <= imported
    assert not imported & SPARED


def test_each_pipeline_runs_alone_in_a_later_process(project: Project) -> None:
    project.succeed(
        "run", "--pipeline", "data_ingestion", "--params", "source=generator,rows=60,seed=7"
    )
    assert project.query(STATE) == [(210, 2, 0, 2, 2)]
    project.succeed("run", "--pipeline", "training")
    metrics = json.loads((project.folder / "data/08_reporting/metrics.json").read_text("utf-8"))
    assert metrics["validation_accuracy"] >= 0.93
    # From the first node on, and again from any whose inputs are kept.
    for node in ((), ("--from-nodes", "compare_models")):
        project.succeed("run", "--pipeline", "registry", *node)
    for node in ((), ("--from-nodes", "release_champion")):
        project.succeed("run", "--pipeline", "deployment", *node)
    assert project.query(STATE) == [(210, 2, 0, 3, 3)]
