"""What the tables remember: runs, the history that a decision looks at, and decisions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from mlops_for_mle.database.engine import try_lock
from mlops_for_mle.errors import NothingToDoError
from mlops_for_mle.pipelines.monitoring.checks import Metric
from mlops_for_mle.pipelines.monitoring.datasets import (
    MonitoringHistoryDataset,
    MonitoringRunDataset,
    OpenDecisionDataset,
    RetrainingDecisionDataset,
)
from mlops_for_mle.pipelines.monitoring.options import Action
from mlops_for_mle.pipelines.monitoring.retraining import RetrainingDecision
from tests.expectations import refused
from tests.pipelines.monitoring.examples import DECISION, at, run, window
from tests.releases import iris_release
from tests.servers import query

IRIS = iris_release(1).manifest.contract.model_dump(mode="json")
BAD = Metric("performance", "prediction", "accuracy", 0.4, severity="alarm")
DRIFTED = Metric("drift", "width", "population_stability_index", 2, severity="alarm")
FINE = Metric("drift", "length", "population_stability_index", 0.1)


def record(
    url: str, begin: float, end: float, *metrics: Metric, labelled: Any = None, **facts: Any
) -> Any:
    """Record a run whose window, and whose labels, lie between two hours; gives its number."""
    facts = {"contract": "iris", "release": "iris-v1-0123abcd", "status": "healthy"} | facts
    facts |= {"window_from": at(begin), "window_to": at(end), "metrics": metrics or (FINE,)}
    if labelled:
        facts |= {"labelled_from": at(labelled[0]), "labelled_to": at(labelled[1])}
    entry = MonitoringRunDataset(IRIS, {"con": url})
    entry.save(replace(run(window()), **facts))
    return entry.load().id


def history(url: str) -> tuple[list[int], list[int]]:
    """The runs whose windows count, and those whose labels count."""
    found = MonitoringHistoryDataset(contract=IRIS, credentials={"con": url}).load()
    windows, labelled = ([one.run_id for one in found[kind]] for kind in found)
    return windows, labelled


def test_each_finding_has_its_alarms_and_those_of_other_releases_are_left_out(database_url):
    first = record(database_url, 0, 1, BAD, DRIFTED, FINE, status="alarm")
    record(database_url, 2, 3, BAD, status="alarm", release="iris-v0-0123abcd")
    record(database_url, 4, 5, status="insufficient")
    record(database_url, 0.5, 6)
    last = record(database_url, 5, 7)

    newest, oldest = MonitoringHistoryDataset(IRIS, {"con": database_url}).load()["windows"]

    assert (newest.run_id, newest.alarms) == (last, [])
    assert newest.window_from == at(5)
    assert (oldest.run_id, sorted(oldest.alarms)) == (first, ["drift", "performance"])


def test_windows_that_share_predictions_count_once(database_url):
    random = np.random.default_rng(3)
    begins = random.integers(0, 60, 40).tolist()
    ends = (begins + random.integers(1, 9, 40)).tolist()
    spans = zip(begins, ends, strict=True)
    runs = [(end, record(database_url, begin, end), begin) for begin, end in spans]

    expected: list[int] = []
    oldest = np.inf
    for end, number, begin in sorted(runs, reverse=True):
        if end < oldest:
            expected.append(number)
            oldest = begin
    assert len(expected) > 5
    assert history(database_url) == (expected, [])


def test_what_a_retraining_has_answered_is_no_new_evidence(database_url):
    record(database_url, 0, 1)
    record(database_url, 2, 3, BAD, labelled=(0, 1))
    # The decision was made while somebody looked back.
    decide(database_url, run_id=record(database_url, -2, -1))
    query(database_url, "UPDATE retraining_decisions SET acted_at = now()")
    record(database_url, 2.5, 3.5, BAD, labelled=(0, 1))
    later = record(database_url, 4, 5, BAD, labelled=(0.5, 2))
    assert history(database_url) == ([later], [])

    late = record(database_url, 4, 5, BAD, labelled=(1.5, 3))
    assert history(database_url) == ([late], [late])


def test_what_was_found_before_somebody_rolled_back_to_the_release_is_no_new_evidence(database_url):
    record(database_url, 0, 1, BAD, labelled=(0, 1))
    query(
        database_url,
        "INSERT INTO deployments (contract, event, release, model_version, run_id, reason, actor, "
        "created_at) VALUES ('iris', 'deploy', 'iris-v2-0123abcd', 2, 'b', 'x', 'ada', :deployed), "
        "('iris', 'rollback', 'iris-v1-0123abcd', 1, 'a', 'x', 'ada', :rolled_back)",
        deployed=at(2),
        rolled_back=at(3),
    )
    # The newest predictions are still those from before.
    record(database_url, 0, 1, BAD, labelled=(0, 1))
    assert history(database_url) == ([], [])

    later = record(database_url, 4, 5, BAD, labelled=(4, 5))
    assert history(database_url) == ([later], [later])


@contextmanager
def running(url: str, run_id: str) -> Iterator[None]:
    """A run of MLflow whose process lives, as the hooks of a tracked pipeline have it."""
    run = SimpleNamespace(info=SimpleNamespace(run_id=run_id))
    held = try_lock(url, f"run {run_id}")
    assert held is not None
    with held, patch("mlflow.active_run", return_value=run):
        yield


def decide(url: str, decision: Action = "retrain", run_id: int | None = None) -> None:
    made = replace(DECISION, id=None, monitoring_run_id=run_id, decision=decision)
    RetrainingDecisionDataset(IRIS, {"con": url}).save(made)


def take(url: str) -> RetrainingDecision:
    return OpenDecisionDataset(IRIS, {"con": url}).load()


DECISIONS = "SELECT run_id, acted_at IS NULL, outcome FROM retraining_decisions ORDER BY id"


def test_a_decision_is_taken_up_by_one_run_and_concluded_by_it(database_url, caplog):
    decide(database_url)
    with running(database_url, "failed"):
        assert take(database_url).run_id == "failed"
    # What a run that failed has taken up is free again.
    with running(database_url, "own"):
        taken = take(database_url)
        # Decisions that are made meanwhile are not this run's, and nobody else's yet.
        decide(database_url)
        assert take(database_url) == taken
        already = "Another run retrains iris already"
        with running(database_url, "other"), refused(NothingToDoError, already):
            take(database_url)

        entry = OpenDecisionDataset(IRIS, {"con": database_url})
        entry.save(replace(taken, outcome="version 2 rejected"))
        entry.save(replace(taken, outcome="version 3 promoted"))

    concluded = ("own", False, "version 2 rejected")
    assert query(database_url, DECISIONS) == [concluded, (None, True, None)]
    assert "was concluded by another run meanwhile" in caplog.text
