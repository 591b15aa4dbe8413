"""`kedro score`: what a person who scores a table sees, and how it ends."""

import signal

import pytest

from mlops_for_mle.database.schema import prepare
from tests.end_to_end.commands import finish
from tests.pipelines.scoring.stage import INSERT, Stage
from tests.releases import iris_release
from tests.servers import eventually, query

pytestmark = pytest.mark.end_to_end


def test_a_first_use_from_nothing_to_predictions(project, contract):
    with project.held() as url:
        prepare(url, contract)
        query(url, INSERT, count=5)
        stage = Stage(url, contract, str(project.folder / "data/releases"))
        refused = project.kedro("score")
        assert refused.code == 1
        assert "those that are there already are scored by `kedro score --from-s" in refused.output
        assert "Error: Nothing of iris is deployed yet: run `kedro run` first" in refused.errors
        stage.deploy(iris_release(1))
        said = project.succeed("score", "--from-start").output
        assert said == "Queued 5 row(s) that had no prediction.\nScored 5 row(s).\n"
        query(url, "INSERT INTO iris_data VALUES (100, now(), 'NaN', 3, 1, 1, 0)")
        query(url, INSERT, count=2)

        process = project.start("score", "--follow")
        assert eventually(lambda: stage.scored() == 7)
        process.send_signal(signal.SIGINT)
        finished = finish(process, seconds=60)

        assert finished.code == 0, finished.text
        assert "Traceback" not in finished.text
        assert "Scored 2 row(s), rejected 1 (see scoring_rejects)." in finished.output
        assert "queued no longer; 0 waited" in project.succeed("score", "--uninstall").output
