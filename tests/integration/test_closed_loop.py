"""The whole loop: the world changes, monitoring notices, a retraining answers, all is well."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from mlops_for_mle.commands.watch import patient_retraining, watch_once
from mlops_for_mle.config import release_store
from mlops_for_mle.errors import NotCalledForError
from mlops_for_mle.release import ReleaseStore
from tests.integration.expectations import refused
from tests.integration.projects import run_session
from tests.integration.servers import query
from tests.integration.traffic import Traffic, deployed_release

pytestmark = pytest.mark.integration

# Versicolor is called virginica from now on, and the other way round.
SWAPPED = {1: 2, 2: 1}


@pytest.fixture(scope="module")
def project(project_folder: Path, module_database_url: str) -> Iterator[Path]:
    """A project that has run once, so that its champion is deployed."""
    (project_folder / "conf/local/globals.yml").write_text(f"experiment: {project_folder.name}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_PROJECT_PATH", str(project_folder))
        patch.setenv("DATABASE_URL", module_database_url)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(project_folder)
        run_session(project_folder)
        yield project_folder


def table(statement: str) -> list[Any]:
    return query(os.environ["DATABASE_URL"], statement)


def monitor(project: Path) -> tuple[str, str]:
    """Run the pipeline monitoring; gives the status and the decision."""
    run_session(project, "monitoring")
    ((status,),) = table("SELECT status FROM monitoring_runs ORDER BY id DESC LIMIT 1")
    ((decision,),) = table("SELECT decision FROM retraining_decisions ORDER BY id DESC LIMIT 1")
    return status, decision


def test_a_changed_world_is_noticed_learned_and_told_by_the_tables(project: Path) -> None:
    url, store = os.environ["DATABASE_URL"], ReleaseStore(release_store())
    first = deployed_release(url, store, "iris")
    traffic = Traffic(url, first, seed=7)

    traffic.serve(500, noise=0.1)
    assert monitor(project) == ("healthy", "none")
    with refused(NotCalledForError) as refusal:
        run_session(project, "retrain")
    assert "says none" in refusal.message

    traffic.serve(500, noise=0.1, relabel=SWAPPED)
    assert monitor(project) == ("alarm", "none")
    traffic.serve(500, noise=0.1, relabel=SWAPPED)
    assert monitor(project) == ("alarm", "retrain")

    with KedroSession.create(project_path=project) as session:
        session.run(pipeline_names=["retrain"], node_names=["choose_rows"])
    ((acted_at,),) = table("SELECT acted_at FROM retraining_decisions ORDER BY id DESC LIMIT 1")
    assert acted_at is None, "a part of the pipeline ends nothing"

    run_session(project, "retrain")
    with refused(NotCalledForError) as refusal:
        run_session(project, "retrain")
    assert "was acted on" in refusal.message
    second = deployed_release(url, store, "iris")
    assert second.manifest.release != first.manifest.release
    assert second.manifest.snapshot.row_count == 1_000

    traffic.switch(second)
    traffic.serve(500, noise=0.1, relabel=SWAPPED)
    assert monitor(project) == ("healthy", "none")

    accuracy = table(
        "SELECT value FROM monitoring_metrics WHERE area = 'performance' "
        "AND metric = 'accuracy' AND subject = 'prediction' ORDER BY run_id"
    )
    assert accuracy[0][0] > 0.9
    assert accuracy[1][0] < 0.5
    assert accuracy[2][0] < 0.5
    assert accuracy[3][0] > 0.9
    story = table(
        "SELECT runs.release, runs.status, decisions.decision, decisions.outcome "
        "FROM monitoring_runs runs JOIN retraining_decisions decisions "
        "ON decisions.monitoring_run_id = runs.id ORDER BY runs.id"
    )
    assert [tuple(row)[:3] for row in story] == [
        (first.manifest.release, "healthy", "none"),
        (first.manifest.release, "alarm", "none"),
        (first.manifest.release, "alarm", "retrain"),
        (second.manifest.release, "healthy", "none"),
    ]
    assert story[2][3].startswith("version 2 promoted: validation accuracy")
    served = table("SELECT release, model_version FROM deployments ORDER BY id")
    assert [tuple(row) for row in served] == [
        (first.manifest.release, 1),
        (second.manifest.release, 2),
    ]


def test_labels_that_stay_the_newest_start_no_retraining_until_others_say_the_same(
    project: Path,
) -> None:
    url, store = os.environ["DATABASE_URL"], ReleaseStore(release_store())
    begin = datetime.now(UTC) - timedelta(hours=12)
    traffic = Traffic(url, deployed_release(url, store, "iris"), seed=8, start=begin)

    traffic.serve(500, noise=0.1, flip_labels=0.6)
    assert monitor(project) == ("alarm", "none")
    traffic.serve(600, noise=0.1, labelled=0)
    assert monitor(project) == ("alarm", "none")
    traffic.serve(600, noise=0.1, labelled=0)
    assert monitor(project) == ("alarm", "none")

    traffic.serve(500, noise=0.1, flip_labels=0.6)
    assert monitor(project) == ("alarm", "retrain")


def test_a_retraining_that_cannot_succeed_waits_longer_and_monitoring_does_not(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, store = os.environ["DATABASE_URL"], ReleaseStore(release_store())
    begin = datetime.now(UTC) - timedelta(hours=6)
    traffic = Traffic(url, deployed_release(url, store, "iris"), seed=9, start=begin)
    traffic.serve(500, noise=0.1, flip_labels=0.6)
    monitor(project)
    traffic.serve(500, noise=0.1, flip_labels=0.6)
    ((before,),) = table("SELECT count(*) FROM monitoring_runs")
    checks = project / "conf/local/parameters_training.yml"
    checks.write_text("data_checks: {minimum_rows_per_class: 10000}\n")
    metadata = bootstrap_project(project)
    retraining = patient_retraining(metadata, None, timedelta(hours=1))
    try:
        for _ in range(3):
            watch_once(metadata, None, "iris", retraining)
    finally:
        checks.unlink()

    assert table("SELECT count(*) FROM monitoring_runs") == [(before + 3,)]
    assert retraining.failures == 1
    assert "too few rows of a class (class setosa has" in caplog.text
    assert "Traceback" not in caplog.text
