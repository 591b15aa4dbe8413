"""`kedro score`: what a person who scores a table sees, and how it ends."""

import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from mlops_for_mle.contract import Contract
from tests.end_to_end.commands import Finished, Project, finish
from tests.pipelines.scoring.stage import INSERT, Stage
from tests.releases import iris_release
from tests.servers import eventually, query, scalar

pytestmark = pytest.mark.end_to_end

SCORED = "SELECT count(*) FROM iris_prediction"


@pytest.fixture
def url(project: Project) -> Iterator[str]:
    with project.held() as found:
        yield found


def insert(url: str, count: int) -> None:
    query(url, INSERT, count=count)


def stop(process: "subprocess.Popen[str]", number: signal.Signals) -> Finished:
    process.send_signal(number)
    finished = finish(process, seconds=60)
    assert finished.code == 0, finished.text
    assert "Traceback" not in finished.text
    return finished


def scored(finished: Finished) -> int:
    match = re.search(r"Scored (\d+) row\(s\)", finished.output)
    assert match is not None, finished.text
    return int(match[1])


def test_a_first_use_from_nothing_to_predictions(
    project: Project, contract: Contract, url: str
) -> None:
    project.succeed("db", "upgrade")
    insert(url, 5)
    assert "never deployed: run `kedro run` first" in project.refuse("score")
    Stage(url, contract, str(project.folder / "data/releases")).deploy(iris_release(1))
    said = project.succeed("score", "--from-start").output
    assert said == "Queued 5 row(s) that had no prediction.\nScored 5 row(s).\n"
    query(url, "INSERT INTO iris_data VALUES (100, now(), 'NaN', 3, 1, 1, 0)")
    insert(url, 2)
    said = project.succeed("score").output
    assert "Scored 2 row(s), rejected 1 (see scoring_rejects)." in said
    assert scalar(url, SCORED) == 7

    assert "queued no longer; 0 waited" in project.succeed("score", "--uninstall").output
    insert(url, 3)
    said = project.succeed("score").output
    assert "those that are there already are scored by `kedro score --from-start`" in said
    assert "Scored 0 row(s)." in said


def test_a_whole_table_in_one_batch(project: Project, url: str) -> None:
    rows = scalar(url, "SELECT count(*) FROM iris_data")
    said = project.succeed(
        "run", "--pipeline", "scoring", "--params", "scoring.output=scores,scoring.chunk_rows=4"
    )

    assert re.search(rf"scored={rows - 1} rejected=1 release=iris-v1-\w+: table", said.errors)
    assert scalar(url, "SELECT count(*) FROM scores") == rows - 1
    assert query(url, "SELECT reason FROM scores_rejects")[0][0].startswith("sepal_length: is")
    refused = project.kedro("run", "--pipeline", "scoring", "--params", "scoring.chunk_rows=0")
    assert refused.code == 1
    assert "chunk_rows" in refused.errors
    assert "Traceback" not in refused.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_follower_after_its_batch(
    project: Project, url: str, number: signal.Signals
) -> None:
    query(url, "TRUNCATE iris_data, iris_prediction, scoring_queue")
    process = project.start("score", "--follow")
    before = scalar(url, "SELECT count(*) FROM scoring_queue")
    insert(url, 400)
    assert eventually(lambda: scalar(url, SCORED) == before + 400, seconds=60)
    finished = stop(process, number)

    assert scored(finished) == scalar(url, SCORED)
