"""`kedro watch`: its pace by the round, and the command as a process."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest
from sqlalchemy.engine import make_url

from mlops_for_mle.commands import processes
from mlops_for_mle.commands.processes import tell
from mlops_for_mle.errors import UserError
from mlops_for_mle.paths import project_path
from tests.end_to_end.commands import Project, finish
from tests.pipelines.monitoring.examples import DECISION
from tests.pipelines.monitoring.traffic import Traffic, deployed_release
from tests.projects import invoke
from tests.relay import Relay
from tests.servers import eventually, http_server, query

TRIED_AGAIN = re.compile("OperationalError: .*; will be tried again")
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
RUNS = "SELECT count(*) FROM monitoring_runs"


@pytest.fixture
def _signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_rounds_keep_their_pace_whatever_they_fail_with_and_the_last_one_counts(
    monkeypatch, caplog
):
    retrain = replace(DECISION, decision="retrain")
    decided = {"retraining_decision": Mock(load=lambda: retrain)}
    outcomes = [UserError("no server"), decided, ValueError("a fault"), UserError("the last")]
    run, pause = Mock(side_effect=outcomes), Mock()
    monkeypatch.setattr(processes, "run_pipeline", run)
    monkeypatch.setattr(processes, "time", Mock(sleep=pause))

    said = invoke(project_path(), "watch", "--rounds", "3", code=1).output

    assert said.endswith("Error: the last\n")
    pipelines = [call.args[1] for call in run.call_args_list]
    assert (pipelines, pause.call_count) == (
        ["monitoring", "monitoring", "retrain", "monitoring"],
        2,
    )
    assert "no server; will be tried again" in caplog.text
    assert "ValueError: a fault; will be tried again" in caplog.text


@pytest.mark.usefixtures("_signals")
def test_a_retraining_that_fails_is_tried_more_and_more_seldom_while_rounds_go_on(monkeypatch):
    retrain = replace(DECISION, decision="retrain")
    rounds, tried_in = Mock(), list[int]()

    def run(_: Any, pipeline: str) -> dict[str, Any]:
        if pipeline == "monitoring":
            rounds()
            # Acted on already in the last one.
            found = retrain if rounds.call_count < 10 else replace(retrain, acted_at=MOMENT)
            return {"retraining_decision": Mock(load=lambda: found)}
        tried_in.append(rounds.call_count)
        if len(tried_in) < 4:
            raise UserError("too few labels")
        return {}

    monkeypatch.setattr(processes, "run_pipeline", run)
    monkeypatch.setattr(processes, "time", Mock())
    invoke(project_path(), "watch", "--rounds", "10")

    assert tried_in == [1, 2, 4, 8, 9]


@pytest.mark.usefixtures("_signals")
def test_a_signal_that_python_drops_ends_it_before_anything_else_begins(monkeypatch):
    retrain = replace(DECISION, decision="retrain")

    def run(_: Any, pipeline: str) -> dict[str, Any]:
        assert pipeline == "monitoring"
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        return {"retraining_decision": Mock(load=lambda: retrain)}

    monkeypatch.setattr(processes, "run_pipeline", run)

    assert invoke(project_path(), "watch").output.endswith("Stopped.\n")


class Hook(BaseHTTPRequestHandler):
    """Keeps what it is told; `/broken` is refused, `/mute` never answered."""

    told: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        self.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.path != "/mute":
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.told.clear()
    with http_server(Hook) as url:
        yield url


@pytest.mark.parametrize(
    "address",
    [
        "{}/broken",
        "{}/mute",
        "http://127.0.0.1:1/secret",
        "http://127.0.0.1:1/the secret",
        "http://x:port/secret",
        "127.0.0.1/secret",
    ],
)
def test_a_webhook_that_fails_is_logged_and_stops_nothing(hook, address, caplog):
    assert not tell(address.format(hook), DECISION)
    assert "decision=7 was not told to the webhook: " in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.end_to_end
def test_it_outlives_its_database_stops_when_told_and_tells_what_is_decided(registry_project, hook):
    folder, url = registry_project.folder, registry_project.url
    registry_project.run("__default__")
    parameters = folder / "conf/local/parameters.yml"
    parameters.write_text("retraining: {windows: 1, alarms: 1}")
    Traffic(url, deployed_release(registry_project), seed=3).serve(
        500, shift={"petal_length": 1.0}, labelled=0
    )
    network = Relay(make_url(url).port or 0)
    through = make_url(url).set(port=network.port).render_as_string(hide_password=False)
    process = Project(folder, {"DATABASE_URL": through, "MLOPS_ALERT_WEBHOOK": hook}).start(
        "watch", "--every", "1s"
    )
    try:
        assert eventually(lambda: Hook.told)
        network.cut()
        assert any(TRIED_AGAIN.search(line) for line in process.stderr)
        network.mend()
        ((before,),) = query(url, RUNS)
        assert eventually(lambda: query(url, RUNS) > [(before,)])
    finally:
        process.send_signal(signal.SIGTERM)
        finished = finish(process)
        network.close()

    assert finished.code == 0, finished.text
    assert "Stopped." in finished.output
    assert query(url, "SELECT DISTINCT decision FROM retraining_decisions") == [("investigate",)]
    (told,) = Hook.told
    assert (told["contract"], told["decision"]) == ("iris", "investigate")
    assert told["text"] == f"iris: investigate. {' '.join(told['reasons'])}"
    assert told["text"].startswith("iris: investigate. drift: alarm in ")
