"""`kedro watch`: its pace by the round, whatever a round ends in; its runs are not real here."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from mlops_for_mle.commands import processes
from mlops_for_mle.errors import UserError
from mlops_for_mle.paths import project_path
from tests.pipelines.monitoring.examples import DECISION
from tests.projects import invoke

RETRAIN = replace(DECISION, decision="retrain")


def outputs(decision: Any) -> dict[str, Any]:
    return {"retraining_decision": SimpleNamespace(load=lambda: decision)}


@pytest.fixture(autouse=True)
def _signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=lambda seconds: None))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_round_that_fails_ends_nothing_unless_it_is_the_last(monkeypatch, caplog):
    rounds = iter([UserError("no server"), ValueError("a fault"), UserError("the last")])

    def run(*_: Any) -> Any:
        raise next(rounds)

    monkeypatch.setattr(processes, "run_pipeline", run)

    said = invoke(project_path(), "watch", "--rounds", "3", code=1).output

    assert said.endswith("Error: the last\n")
    assert "no server; will be tried again" in caplog.text
    assert "ValueError: a fault; will be tried again" in caplog.text


def test_a_retraining_that_fails_is_tried_more_and_more_seldom_while_rounds_go_on(monkeypatch):
    rounds, tried_in = list[str](), list[int]()

    def run(_: Any, pipeline: str) -> dict[str, Any]:
        if pipeline == "monitoring":
            rounds.append(pipeline)
            # Acted on already in the last one.
            done = None if len(rounds) < 10 else datetime(2026, 1, 2, tzinfo=UTC)
            return outputs(replace(RETRAIN, acted_at=done))
        tried_in.append(len(rounds))
        if len(tried_in) < 4:
            raise UserError("too few labels")
        return {}

    monkeypatch.setattr(processes, "run_pipeline", run)
    invoke(project_path(), "watch", "--rounds", "10")

    assert tried_in == [1, 2, 4, 8, 9]


def test_a_signal_that_python_drops_ends_it_before_anything_else_begins(monkeypatch):
    def run(_: Any, pipeline: str) -> dict[str, Any]:
        assert pipeline == "monitoring"
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        return outputs(RETRAIN)

    monkeypatch.setattr(processes, "run_pipeline", run)

    assert invoke(project_path(), "watch").output.endswith("Stopped.\n")
