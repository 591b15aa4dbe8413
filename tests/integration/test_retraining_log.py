"""What the decision on retraining is given to look at."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import Connection

from mlops_for_mle import monitoring_log, retraining_log
from mlops_for_mle.database import engine_for
from mlops_for_mle.monitoring_run import MonitoringMetric, MonitoringRun, Status
from mlops_for_mle.records_retraining import MOST_WINDOWS, RetrainingDecision, WindowFinding
from tests.integration.servers import query

pytestmark = pytest.mark.integration

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
RELEASE = "iris-v1-0123abcd"
BAD = MonitoringMetric("performance", "prediction", "accuracy", 0.4, is_alarm=True)


def at(hour: float) -> datetime:
    return BEGIN + timedelta(hours=hour)


def record(
    connection: Connection,
    begin: float,
    end: float,
    *metrics: MonitoringMetric,
    status: Status = "healthy",
    release: str = RELEASE,
    labelled: tuple[float, float] | None = None,
) -> int:
    """Record a run whose window, and whose labels, lie between two hours; gives its number."""
    run = MonitoringRun(
        id=None,
        contract="iris",
        release=release,
        model_version=1,
        window_from=at(begin),
        window_to=at(end),
        prediction_count=500,
        labelled_count=200 if labelled else 0,
        status=status,
        reasons=(),
        labelled_from=at(labelled[0]) if labelled else None,
        labelled_to=at(labelled[1]) if labelled else None,
        metrics=metrics,
    )
    recorded = monitoring_log.append(connection, run)
    assert recorded.id is not None
    return recorded.id


def act(connection: Connection, run_id: int) -> None:
    """Answer what monitoring has found up to a run by a retraining."""
    decision = RetrainingDecision("iris", run_id, "retrain", ())
    retraining_log.conclude(connection, retraining_log.append(connection, decision), "rejected")


def findings(connection: Connection) -> tuple[WindowFinding, ...]:
    return retraining_log.unanswered(connection, "iris", RELEASE).findings


def numbers(connection: Connection) -> list[int]:
    return [one.run_id for one in findings(connection)]


def separate(spans: Sequence[tuple[float, float]]) -> list[int]:
    """The numbers of the newest spans that do not overlap, chosen one by one."""
    chosen: list[int] = []
    for index in sorted(range(len(spans)), key=lambda one: (spans[one][1], one), reverse=True):
        if not chosen or spans[index][1] < spans[chosen[-1]][0]:
            chosen.append(index)
    return chosen


def test_before_any_run_there_is_nothing(database_url: str) -> None:
    with engine_for(database_url).begin() as connection:
        assert findings(connection) == ()


def test_each_finding_has_its_alarms_and_those_of_other_releases_are_left_out(
    database_url: str,
) -> None:
    drifted = MonitoringMetric("drift", "width", "population_stability_index", 2, is_alarm=True)
    fine = MonitoringMetric("drift", "length", "population_stability_index", 0.1)
    with engine_for(database_url).begin() as connection:
        first = record(connection, 0, 1, BAD, drifted, fine, status="alarm")
        record(connection, 2, 3, BAD, status="alarm", release="iris-v0-0123abcd")
        record(connection, 4, 5, status="insufficient")
        last = record(connection, 6, 7, fine)

        assert findings(connection) == (
            WindowFinding(last, at(6), at(7), frozenset()),
            WindowFinding(first, at(0), at(1), frozenset({"performance", "drift"})),
        )


def test_windows_that_share_predictions_count_once(database_url: str) -> None:
    random = np.random.default_rng(0)
    with engine_for(database_url).begin() as connection:
        for _ in range(5):
            begins = random.integers(0, 100, 30)
            ends = begins + random.integers(1, 12, 30)
            spans = list(zip(begins.tolist(), ends.tolist(), strict=True))
            recorded = [record(connection, *span) for span in spans]

            assert numbers(connection) == [recorded[index] for index in separate(spans)]

            connection.exec_driver_sql(
                "TRUNCATE monitoring_runs, monitoring_metrics, retraining_decisions"
            )


def test_who_looks_back_hides_no_newer_window(database_url: str) -> None:
    with engine_for(database_url).begin() as connection:
        first, second = record(connection, 0, 1), record(connection, 2, 3)
        before = record(connection, -2, -1)

        assert numbers(connection) == [second, first, before]


def test_however_often_one_window_was_looked_at_the_one_before_it_counts(
    database_url: str,
) -> None:
    with engine_for(database_url).begin() as connection:
        earlier = record(connection, 0, 1, BAD, status="alarm")
    query(
        database_url,
        "INSERT INTO monitoring_runs (contract, release, model_version, window_from, window_to, "
        "prediction_count, labelled_count, status, reasons) SELECT contract, release, "
        "model_version, window_to + interval '1 hour', window_to + interval '2 hours', 500, 0, "
        "'healthy', '[]' FROM monitoring_runs, generate_series(1, 20000)",
    )

    with engine_for(database_url).begin() as connection:
        assert numbers(connection) == [earlier + 20_000, earlier]


def test_no_more_windows_are_read_than_may_be_asked_for(database_url: str) -> None:
    with engine_for(database_url).begin() as connection:
        recorded = [record(connection, hour, hour + 0.5) for hour in range(MOST_WINDOWS + 20)]

        assert numbers(connection) == recorded[: -MOST_WINDOWS - 1 : -1]


def test_what_a_retraining_has_answered_is_no_new_evidence(database_url: str) -> None:
    with engine_for(database_url).begin() as connection:
        record(connection, 0, 1, BAD, status="alarm")
        act(connection, record(connection, 2, 3, BAD, status="alarm"))
        record(connection, 2.5, 3.5, BAD, status="alarm")
        assert findings(connection) == ()

        newer = record(connection, 4, 5, BAD, status="alarm")
        assert numbers(connection) == [newer]


def labelled(connection: Connection) -> list[tuple[int, datetime, datetime]]:
    found = retraining_log.unanswered(connection, "iris", RELEASE).labelled_findings
    return [(one.run_id, one.window_from, one.window_to) for one in found]


def test_a_set_of_labels_counts_once_in_however_many_windows_it_is_the_newest(
    database_url: str,
) -> None:
    with engine_for(database_url).begin() as connection:
        for hour in (0, 2, 4, 6):
            record(connection, hour, hour + 1, BAD, labelled=(0, 1), status="alarm")
        last = record(connection, 8, 9, BAD, labelled=(0, 1), status="alarm")
        assert len(findings(connection)) == 5
        assert labelled(connection) == [(last, at(0), at(1))]

        newer = record(connection, 10, 11, BAD, labelled=(0.5, 2), status="alarm")
        assert labelled(connection) == [(newer, at(0.5), at(2))]

        newest = record(connection, 12, 13, BAD, labelled=(2.5, 4), status="alarm")
        expected = [(newest, at(2.5), at(4)), (newer, at(0.5), at(2))]
        assert labelled(connection) == expected


def test_labels_by_which_performance_was_not_judged_do_not_count(database_url: str) -> None:
    drift = MonitoringMetric("drift", "width", "population_stability_index", 0.1)
    good = MonitoringMetric("performance", "prediction", "accuracy", 0.9)
    with engine_for(database_url).begin() as connection:
        record(connection, 0, 1, drift, labelled=(0, 1))
        few = record(connection, 2, 3, good, labelled=(2, 3), status="insufficient")

        assert labelled(connection) == [(few, at(2), at(3))]


def test_labels_that_a_retraining_has_answered_are_no_new_evidence(database_url: str) -> None:
    with engine_for(database_url).begin() as connection:
        act(connection, record(connection, 4, 5, BAD, labelled=(0, 1), status="alarm"))
        record(connection, 6, 7, BAD, labelled=(0, 1), status="alarm")
        record(connection, 8, 9, BAD, labelled=(0.5, 2), status="alarm")
        assert labelled(connection) == []

        late = record(connection, 8, 9, BAD, labelled=(1.5, 3), status="alarm")
        assert labelled(connection) == [(late, at(1.5), at(3))]


def test_runs_that_noted_no_time_for_their_labels_are_answered_with_their_windows(
    database_url: str,
) -> None:
    with engine_for(database_url).begin() as connection:
        act(connection, record(connection, 4, 5, BAD, labelled=(0, 1), status="alarm"))
        connection.exec_driver_sql(
            "UPDATE monitoring_runs SET labelled_from = NULL, labelled_to = NULL"
        )
        record(connection, 6, 7, BAD, labelled=(2, 3), status="alarm")
        assert labelled(connection) == []
        newer = record(connection, 8, 9, BAD, labelled=(6, 7), status="alarm")
        assert labelled(connection) == [(newer, at(6), at(7))]
