"""`kedro watch`, round by round; test_pipelines.py has the command as a process."""

import signal
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import pytest

from mlops_for_mle.commands import processes
from mlops_for_mle.commands.processes import tell
from mlops_for_mle.errors import UserError
from mlops_for_mle.paths import project_path
from tests.pipelines.monitoring.examples import DECISION
from tests.projects import invoke

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def _signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_what_fails_is_tried_again_and_a_retraining_more_and_more_seldom(monkeypatch, caplog):
    retrain = replace(DECISION, decision="retrain")
    rounds, tried_in = Mock(), list[int]()

    def run(_: Any, pipeline: str) -> dict[str, Any]:
        if pipeline == "monitoring":
            rounds()
            if rounds.call_count == 11:
                raise UserError("the last one counts")
            # Acted on already in the one before.
            found = retrain if rounds.call_count < 10 else replace(retrain, acted_at=MOMENT)
            return {"retraining_decision": Mock(load=lambda: found)}
        tried_in.append(rounds.call_count)
        if len(tried_in) < 4:
            raise UserError("too few labels")
        return {}

    monkeypatch.setattr(processes, "run_pipeline", run)
    monkeypatch.setattr(processes, "time", Mock())
    said = invoke(project_path(), "watch", "--rounds", "11", code=1).output

    assert tried_in == [1, 2, 4, 8, 9]
    assert "too few labels; will be tried again" in caplog.text
    assert said.endswith("Error: the last one counts\n")


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/the secret", "127.0.0.1/secret"])
def test_a_webhook_that_fails_is_logged_and_stops_nothing(address, caplog):
    assert not tell(address, DECISION)
    assert "decision=7 was not told to the webhook: " in caplog.text
    assert "secret" not in caplog.text
