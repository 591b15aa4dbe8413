"""Two `kedro run` on an empty project at the same time, and one that is killed half-way."""

import json
import re
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from tests.end_to_end.commands import Project, finish
from tests.servers import connection_to, eventually, query, waiting_for_a_lock

pytestmark = pytest.mark.end_to_end

BIG = 60_000


@pytest.fixture(scope="module", autouse=True)
def both_runs(project: Project) -> list[str]:
    """What two runs say that were started together in a project where nothing had run."""
    seeds = ("training.seed=1", "training.seed=2")
    processes = [project.start("run", "--params", seed) for seed in seeds]
    finished = [finish(process) for process in processes]
    assert [one.code for one in finished] == [0, 0], "\n".join(one.text for one in finished)
    assert not any("Traceback" in one.text for one in finished)
    return [one.output for one in finished]


def test_nothing_is_left_running_when_both_have_ended(project: Project) -> None:
    assert project.leaves_nothing_running(), project.processes()


def test_both_end_well_and_nothing_is_doubled(project: Project, both_runs: list[str]) -> None:
    for output in both_runs:
        assert "150 in iris_data, 0 rejected" in output
    said = [re.search(r"candidate +version (\d+)", output) for output in both_runs]
    assert sorted(one[1] for one in said if one is not None) == ["1", "2"]
    state = """
        SELECT (SELECT count(*) FROM iris_data), (SELECT count(*) FROM ingestion_batches),
               (SELECT count(*) FROM deployments), (SELECT count(DISTINCT release) FROM deployments)
    """
    ((rows, batches, deployed, releases),) = project.query(state)
    assert (rows, batches) == (150, 1)
    assert deployed == releases
    assert deployed in (1, 2)
    table = project.succeed("model", "list").output
    assert table.count("champion") == 1
    numbers = [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")]
    assert numbers == ["2", "1"]


def test_what_each_has_trained_is_its_own_to_the_last_bit(project: Project, tmp_path: Path) -> None:
    seeds = set()
    for version in ("1", "2"):
        said = project.succeed("model", "reproduce", version).output
        assert "reproduced: identical" in said
        for part in ("rows         150 of iris_data, sha256 ", "metrics      identical ("):
            assert part in said
        folder = tmp_path / version
        project.succeed("model", "download", version, str(folder))
        (description,) = folder.rglob("description.json")
        seeds.add(json.loads(description.read_text("utf-8"))["training"]["seed"])
    assert seeds == {1, 2}


def test_a_training_that_is_interrupted_is_shown_as_killed(project: Project) -> None:
    with project.held() as url:
        mlflow = make_url(url).set(database="mlflow")
        running = "SELECT run_uuid FROM runs WHERE status = 'RUNNING'"
        process = project.start("run", "--pipeline", "training")
        assert eventually(lambda: query(mlflow, running))
        ((run,),) = query(mlflow, running)
        process.send_signal(signal.SIGINT)
        assert finish(process).code == 1
        status = "SELECT status FROM runs WHERE run_uuid = :run"
        assert query(mlflow, status, run=run) == [("KILLED",)]


def test_a_run_that_is_killed_while_it_writes_leaves_no_half_batch_and_no_server(
    project: Project, tmp_path: Path
) -> None:
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
            process = project.start(*ingest)
            assert eventually(lambda: waiting_for_a_lock(url) == 1)
            lease.close()
            assert project.is_running()
            process.kill()
            process.communicate()
            assert project.leaves_nothing_running(), project.processes()
            blocker.invalidate()
    counts = "SELECT (SELECT count(*) FROM iris_data), (SELECT count(*) FROM ingestion_batches)"
    assert project.query(counts) == [(150, 1)]

    project.succeed(*ingest)
    assert project.query(counts) == [(150 + BIG, 2)]
    assert project.leaves_nothing_running(), project.processes()
