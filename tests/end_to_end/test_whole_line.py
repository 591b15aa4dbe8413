"""`kedro run` on an empty project: two at once, again, in parts, interrupted and killed."""

import json
import os
import re
import signal
import time
from contextlib import ExitStack

import psutil
import pytest
from sqlalchemy import make_url, text

from mlops_for_mle.database import embedded
from tests.end_to_end.commands import Project, finish
from tests.servers import connection_to, eventually, scalar, waiting_for_a_lock

pytestmark = pytest.mark.end_to_end

BIG = 60_000
ROWS = "SELECT (SELECT count(*) FROM iris_data), (SELECT count(*) FROM ingestion_batches)"
DEPLOYED = "SELECT release, model_version FROM deployments ORDER BY id DESC"

# Each takes from a tenth of a second to a second to import.
SPARED = {"hypothesis", "matplotlib", "onnx", "pyarrow.dataset", "skl2onnx", "sklearn", "skops"}


@pytest.fixture(scope="module", autouse=True)
def first_runs(project):
    """What two runs say that were started together where nothing had run."""
    seeds = ("training.seed=1", "training.seed=2")
    begun = [project.begin("run", "--params", seed) for seed in seeds]
    finished = [one.finish() for one in begun]
    assert [one.code for one in finished] == [0, 0], "\n".join(one.text for one in finished)
    assert not any("Traceback" in one.text for one in finished)
    return [one.output for one in finished]


def test_each_ends_with_a_summary_and_nothing_is_doubled(project, first_runs):
    assert project.leaves_nothing_running(), project.processes()
    for output in first_runs:
        for said in (
            "150 in iris_data, 0 rejected",
            ", validation accuracy 0.9",
            "promoted: validation accuracy 0.9",
            "better than a constant answer, 0.3",
            "  release    iris-v",
            "make serve",
        ):
            assert said in output
        assert len(output.strip().splitlines()) <= 12
    said = [re.search(r"candidate +version (\d+)", output) for output in first_runs]
    assert sorted(one[1] for one in said if one is not None) == ["1", "2"]
    assert project.query(ROWS) == [(150, 1)]
    releases = [release for release, _ in project.query(DEPLOYED)]
    assert len(set(releases)) == len(releases) in (1, 2)
    table = project.succeed("model", "list").output
    assert table.count("champion") == 1
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["2", "1"]


def test_what_each_has_trained_is_its_own_to_the_last_bit(project):
    for version in ("1", "2"):
        said = project.succeed("model", "reproduce", version).output
        assert "150 rows of iris_data" in said
        assert "reproduced: identical" in said
    logged = [json.loads(one.read_bytes()) for one in project.folder.rglob("description.json")]
    assert {one["training"]["seed"] for one in logged} == {1, 2}


def test_a_later_run_doubles_no_row_and_decides_against_the_champion(project):
    said = project.succeed("run").output

    assert "version 3, validation accuracy 0.9" in said
    assert re.search(r"champion version [12] has 0\.9\d+ on the same rows", said)
    assert project.query(ROWS) == [(150, 1)]
    assert project.leaves_nothing_running(), project.processes()


def test_an_ingestion_imports_nothing_that_only_others_need(project):
    """So it starts fast; benchmarks/start_up.py measures how fast."""
    watched = Project(project.folder, {"PYTHONPROFILEIMPORTTIME": "1"})

    said = finish(watched.start("run", "--pipeline", "data_ingestion")).errors

    imported = set(re.findall(r"^import time:.*\| +(\S+)$", said, re.M))
    assert {"kedro.framework.cli", "pandas", "sqlalchemy"} <= imported
    assert not imported & SPARED


def test_each_pipeline_runs_alone_in_a_later_process(project):
    project.succeed(
        "run", "--pipeline", "data_ingestion", "--params", "source=generator,rows=60,seed=7"
    )
    assert project.query(ROWS) == [(210, 2)]
    project.succeed("run", "--pipeline", "training")
    metrics = json.loads((project.folder / "data/08_reporting/metrics.json").read_text("utf-8"))
    assert metrics["validation_accuracy"] >= 0.93
    # From the first node on, and again from any whose inputs are kept.
    for node in ((), ("--from-nodes", "compare_models")):
        project.succeed("run", "--pipeline", "registry", *node)
    for node in ((), ("--from-nodes", "release_champion")):
        project.succeed("run", "--pipeline", "deployment", *node)
    assert project.query(DEPLOYED)[0][1] == 4


@pytest.mark.parametrize("is_interrupted", [True, False], ids=["interrupted", "without database"])
def test_a_training_that_is_interrupted_or_loses_its_database_ends_calmly(
    project, tmp_path, is_interrupted
):
    fifo = tmp_path / "rows.csv"
    os.mkfifo(fifo)
    with project.held() as url:
        runs = make_url(url).set(database="mlflow")

        def status() -> str:
            return str(scalar(runs, "SELECT status FROM runs ORDER BY start_time DESC LIMIT 1"))

        def is_waiting() -> bool:
            """Whether it does nothing for a while: it waits for who writes to the file."""
            before = process.cpu_times()
            time.sleep(1)
            return process.cpu_times() == before

        begun = project.begin("run", "--pipeline", "training", "--params", f"training_csv={fifo}")
        process = psutil.Process(begun.process.pid)
        assert eventually(lambda: status() == "RUNNING")
        assert eventually(is_waiting)
        if is_interrupted:
            process.send_signal(signal.SIGINT)
        else:
            embedded.stop(project.home)
            fifo.write_text("")
        finished = begun.finish()
        assert finished.code == 1
        assert "Traceback" not in finished.text, finished.text
        if is_interrupted:
            assert status() == "KILLED"


def test_a_run_that_is_killed_while_it_writes_leaves_no_half_batch_and_no_server(project, tmp_path):
    ((rows, batches),) = project.query(ROWS)
    path = tmp_path / "big.csv"
    lines = (f"{4 + number / 1e5:.5f},3.5,1.4,0.2,{number % 3}" for number in range(BIG))
    header = "sepal_length,sepal_width,petal_length,petal_width,target"
    path.write_text("\n".join([header, *lines]) + "\n")
    ingest = ("run", "--pipeline", "data_ingestion", "--params", f"source=csv,csv_path={path}")

    with ExitStack() as lease:
        lease.enter_context(project.held())
        url = project.url_without_lease()
        with connection_to(url) as blocker:
            # The rows are staged and the ledger is written; only the INSERT has to wait.
            blocker.execute(text("LOCK TABLE iris_data IN SHARE MODE"))
            begun = project.begin(*ingest)
            assert eventually(lambda: waiting_for_a_lock(url) == 1)
            lease.close()
            assert project.is_running()
            begun.process.kill()
            assert begun.finish().code == -signal.SIGKILL
            assert project.leaves_nothing_running(), project.processes()
            blocker.invalidate()
    assert project.query(ROWS) == [(rows, batches)]

    project.succeed(*ingest)
    assert project.query(ROWS) == [(rows + BIG, batches + 1)]
    assert project.leaves_nothing_running(), project.processes()
