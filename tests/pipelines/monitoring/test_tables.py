"""What the tables remember: runs, the history that a decision looks at, and decisions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import pytest

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.errors import NotCalledForError, PrerequisiteError, UserError
from mlops_for_mle.pipelines.monitoring.datasets import (
    DeployedReleaseDataset,
    MonitoringRunDataset,
    OpenDecisionDataset,
    RetrainingDecisionDataset,
    RetrainingOutcomeDataset,
    read_history,
)
from mlops_for_mle.pipelines.monitoring.options import MOST_WINDOWS
from mlops_for_mle.pipelines.monitoring.record import (
    Action,
    Metric,
    MonitoringRun,
    RetrainingDecision,
    Status,
)
from mlops_for_mle.pipelines.monitoring.retraining import History, WindowFinding
from mlops_for_mle.releases.deployments import deploy
from mlops_for_mle.releases.store import ReleaseStore
from tests.integration.expectations import refused
from tests.integration.servers import connection_to, query
from tests.new_releases import iris_release

pytestmark = pytest.mark.integration

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
RELEASE = "iris-v1-0123abcd"
IRIS = iris_release(1).manifest.contract.model_dump(mode="json")
BAD = Metric("performance", "prediction", "accuracy", 0.4, is_alarm=True)


def at(hour: float) -> datetime:
    return BEGIN + timedelta(hours=hour)


@contextmanager
def refused_with(said: str) -> Iterator[None]:
    """Expect what Kedro makes of a refusal."""
    with refused(UserError) as refusal:
        yield
    assert said in refusal.message


def record(
    url: str,
    begin: float,
    end: float,
    *metrics: Metric,
    status: Status = "healthy",
    release: str = RELEASE,
    labelled: tuple[float, float] | None = None,
) -> int:
    """Record a run whose window, and whose labels, lie between two hours; gives its number."""
    run = MonitoringRun(
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
    entry = MonitoringRunDataset(IRIS, {"con": url})
    entry.save(run)
    recorded = entry.load().id
    assert recorded is not None
    return recorded


def act(url: str, run_id: int) -> None:
    """Answer what monitoring has found up to a run by a retraining."""
    query(
        url,
        "INSERT INTO retraining_decisions (contract, monitoring_run_id, decision, reasons, "
        "acted_at) VALUES ('iris', :run, 'retrain', '[]', now())",
        run=run_id,
    )


def history(url: str) -> History:
    with engine_for(url).connect() as connection:
        return read_history(connection, "iris", RELEASE)


def findings(url: str) -> tuple[WindowFinding, ...]:
    return history(url).findings


def numbers(url: str) -> list[int]:
    return [one.run_id for one in findings(url)]


def separate(spans: Sequence[tuple[float, float]]) -> list[int]:
    """The numbers of the newest spans that do not overlap, chosen one by one."""
    chosen: list[int] = []
    for index in sorted(range(len(spans)), key=lambda one: (spans[one][1], one), reverse=True):
        if not chosen or spans[index][1] < spans[chosen[-1]][0]:
            chosen.append(index)
    return chosen


def test_before_any_run_there_is_nothing(database_url: str) -> None:
    assert findings(database_url) == ()


def test_each_finding_has_its_alarms_and_those_of_other_releases_are_left_out(
    database_url: str,
) -> None:
    drifted = Metric("drift", "width", "population_stability_index", 2, is_alarm=True)
    fine = Metric("drift", "length", "population_stability_index", 0.1)
    first = record(database_url, 0, 1, BAD, drifted, fine, status="alarm")
    record(database_url, 2, 3, BAD, status="alarm", release="iris-v0-0123abcd")
    record(database_url, 4, 5, status="insufficient")
    last = record(database_url, 6, 7, fine)

    assert findings(database_url) == (
        WindowFinding(last, at(6), at(7), frozenset()),
        WindowFinding(first, at(0), at(1), frozenset({"performance", "drift"})),
    )


def test_windows_that_share_predictions_count_once(database_url: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        begins = random.integers(0, 100, 30)
        ends = begins + random.integers(1, 12, 30)
        spans = list(zip(begins.tolist(), ends.tolist(), strict=True))
        recorded = [record(database_url, *span) for span in spans]

        assert numbers(database_url) == [recorded[index] for index in separate(spans)]

        query(database_url, "TRUNCATE monitoring_runs, monitoring_metrics, retraining_decisions")


def test_who_looks_back_hides_no_newer_window(database_url: str) -> None:
    first, second = record(database_url, 0, 1), record(database_url, 2, 3)
    before = record(database_url, -2, -1)

    assert numbers(database_url) == [second, first, before]


def test_however_often_one_window_was_looked_at_the_one_before_it_counts(
    database_url: str,
) -> None:
    earlier = record(database_url, 0, 1, BAD, status="alarm")
    query(
        database_url,
        "INSERT INTO monitoring_runs (contract, release, model_version, window_from, window_to, "
        "prediction_count, labelled_count, status, reasons) SELECT contract, release, "
        "model_version, window_to + interval '1 hour', window_to + interval '2 hours', 500, 0, "
        "'healthy', '[]' FROM monitoring_runs, generate_series(1, 20000)",
    )

    assert numbers(database_url) == [earlier + 20_000, earlier]


def test_no_more_windows_are_read_than_may_be_asked_for(database_url: str) -> None:
    recorded = [record(database_url, hour, hour + 0.5) for hour in range(MOST_WINDOWS + 20)]

    assert numbers(database_url) == recorded[: -MOST_WINDOWS - 1 : -1]


def test_what_a_retraining_has_answered_is_no_new_evidence(database_url: str) -> None:
    record(database_url, 0, 1, BAD, status="alarm")
    act(database_url, record(database_url, 2, 3, BAD, status="alarm"))
    record(database_url, 2.5, 3.5, BAD, status="alarm")
    assert findings(database_url) == ()

    newer = record(database_url, 4, 5, BAD, status="alarm")
    assert numbers(database_url) == [newer]


def labelled(url: str) -> list[tuple[int, datetime, datetime]]:
    found = history(url).labelled_findings
    return [(one.run_id, one.window_from, one.window_to) for one in found]


def test_a_set_of_labels_counts_once_in_however_many_windows_it_is_the_newest(
    database_url: str,
) -> None:
    for hour in (0, 2, 4, 6):
        record(database_url, hour, hour + 1, BAD, labelled=(0, 1), status="alarm")
    last = record(database_url, 8, 9, BAD, labelled=(0, 1), status="alarm")
    assert len(findings(database_url)) == 5
    assert labelled(database_url) == [(last, at(0), at(1))]

    newer = record(database_url, 10, 11, BAD, labelled=(0.5, 2), status="alarm")
    assert labelled(database_url) == [(newer, at(0.5), at(2))]

    newest = record(database_url, 12, 13, BAD, labelled=(2.5, 4), status="alarm")
    expected = [(newest, at(2.5), at(4)), (newer, at(0.5), at(2))]
    assert labelled(database_url) == expected


def test_labels_by_which_performance_was_not_judged_do_not_count(database_url: str) -> None:
    drift = Metric("drift", "width", "population_stability_index", 0.1)
    good = Metric("performance", "prediction", "accuracy", 0.9)
    record(database_url, 0, 1, drift, labelled=(0, 1))
    few = record(database_url, 2, 3, good, labelled=(2, 3), status="insufficient")

    assert labelled(database_url) == [(few, at(2), at(3))]


def test_labels_that_a_retraining_has_answered_are_no_new_evidence(database_url: str) -> None:
    act(database_url, record(database_url, 4, 5, BAD, labelled=(0, 1), status="alarm"))
    record(database_url, 6, 7, BAD, labelled=(0, 1), status="alarm")
    record(database_url, 8, 9, BAD, labelled=(0.5, 2), status="alarm")
    assert labelled(database_url) == []

    late = record(database_url, 8, 9, BAD, labelled=(1.5, 3), status="alarm")
    assert labelled(database_url) == [(late, at(1.5), at(3))]


def test_a_run_is_recorded_with_its_metrics(database_url: str) -> None:
    entry = MonitoringRunDataset(IRIS, {"con": database_url})
    with refused_with("Nothing was monitored yet"):
        entry.load()
    number = record(database_url, 0, 1, BAD, status="alarm")

    assert entry.load().id == number
    assert entry.load().window_to == at(1)
    assert query(database_url, "SELECT * FROM monitoring_metrics") == [
        (number, "performance", "prediction", "accuracy", 0.4, None, None, None, None, True)
    ]


@pytest.fixture(scope="module")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A small MLflow store of its own."""
    uri, before = (
        f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db",
        mlflow.get_tracking_uri(),
    )
    with pytest.MonkeyPatch.context() as patch:
        # MLflow sets the variable too.
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        yield
        mlflow.set_tracking_uri(before)


@contextmanager
def mlflow_run(url: str) -> Iterator[str]:
    """An MLflow run whose process lives, as the hooks of a tracked pipeline have it."""
    with connection_to(url) as alive, mlflow.start_run(experiment_id="0", nested=True) as run:
        alive.exec_driver_sql(
            "SELECT pg_advisory_lock(hashtextextended(%s, 0))", (f"run {run.info.run_id}",)
        )
        yield run.info.run_id


def decide(url: str, decision: Action = "retrain") -> None:
    made = RetrainingDecision(
        contract="iris", monitoring_run_id=None, decision=decision, reasons=("because",)
    )
    RetrainingDecisionDataset(IRIS, {"con": url}).save(made)


def take(url: str) -> RetrainingDecision:
    found = OpenDecisionDataset(IRIS, {"con": url}).load()
    assert isinstance(found, RetrainingDecision)
    return found


DECISIONS = "SELECT run_id, acted_at IS NULL, outcome FROM retraining_decisions ORDER BY id"


def test_a_decision_is_taken_up_by_one_run_and_concluded_by_it(
    database_url: str, mlflow_store: None, caplog: pytest.LogCaptureFixture
) -> None:
    decide(database_url)
    with mlflow_run(database_url) as first:
        taken = take(database_url)
        # Decisions that are made meanwhile are not this run's, and nobody else's yet.
        decide(database_url)
        assert take(database_url).id == taken.id
        with (
            mlflow_run(database_url),
            refused(NotCalledForError) as refusal,
        ):
            take(database_url)
        assert "Another run retrains iris already" in refusal.message

        entry = RetrainingOutcomeDataset(IRIS, {"con": database_url})
        entry.save(replace(taken, outcome="version 2 rejected"))
        entry.save(replace(taken, outcome="version 3 promoted"))

    assert query(database_url, DECISIONS) == [
        (first, False, "version 2 rejected"),
        (None, True, None),
    ]
    assert "was concluded by another run meanwhile" in caplog.text
    with (
        mlflow_run(database_url),
        refused_with("another retraining ended"),
    ):
        take(database_url)


def test_what_a_run_that_failed_has_taken_up_is_free_again(
    database_url: str, mlflow_store: None
) -> None:
    decide(database_url)
    with mlflow_run(database_url) as first:
        taken = take(database_url)
    with mlflow_run(database_url) as second:
        again = take(database_url)

    assert taken.id == again.id
    assert first != second
    assert query(database_url, DECISIONS) == [(second, True, None)]


def test_a_decision_is_not_acted_on_after_a_person_has_deployed_or_rolled_back(
    database_url: str, mlflow_store: None
) -> None:
    def put_in_service(version: int) -> None:
        with engine_for(database_url).connect() as connection:
            deploy(connection, iris_release(version).manifest, reason="test", actor="test")

    put_in_service(1)
    decide(database_url)
    put_in_service(2)
    with mlflow_run(database_url):
        with refused_with("before another release was put in service"):
            take(database_url)
        decide(database_url)
        assert take(database_url).decision == "retrain"


def test_without_an_open_decision_there_is_nothing_to_take(
    database_url: str, mlflow_store: None
) -> None:
    with mlflow_run(database_url):
        with refused_with("Nothing was monitored yet"):
            take(database_url)
        decide(database_url)
        decide(database_url, "none")
        with refused_with("decision 2 says none"):
            take(database_url)


def test_a_release_whose_run_is_unknown_is_told_in_one_sentence(
    database_url: str, mlflow_store: None, tmp_path: Path
) -> None:
    release, store = iris_release(1), ReleaseStore(str(tmp_path / "releases"))
    store.publish(release)
    with engine_for(database_url).connect() as connection:
        deploy(connection, release.manifest, reason="test", actor="test")
    entry = DeployedReleaseDataset(store.url, contract=IRIS, credentials={"con": database_url})

    with mlflow_run(database_url), refused(PrerequisiteError) as refusal:
        entry.load()

    expected = f"The training snapshot of release {release.manifest.release} is not in MLflow run"
    assert refusal.message.startswith(expected)
    assert refusal.message.endswith("train and deploy again with `kedro run`.")
