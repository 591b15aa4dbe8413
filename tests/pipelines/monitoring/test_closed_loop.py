"""The whole loop: the world changes, monitoring notices, a retraining answers, all is well."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kedro.framework.session import KedroSession

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.errors import NotCalledForError
from mlops_for_mle.releases.deployments import roll_back
from mlops_for_mle.releases.store import ReleaseStore
from tests.candidates import RegistryProject
from tests.integration.expectations import refused
from tests.integration.servers import query
from tests.pipelines.monitoring.traffic import Traffic, deployed_release

pytestmark = pytest.mark.integration

# Versicolor is called virginica from now on, and the other way round.
SWAPPED = {1: 2, 2: 1}


@pytest.fixture(scope="module")
def project(registry_project: RegistryProject) -> RegistryProject:
    """A project that has run once, so that its champion is deployed."""
    registry_project.run("__default__")
    return registry_project


def table(project: RegistryProject, statement: str) -> list[tuple[Any, ...]]:
    return query(project.url, statement)


def store(project: RegistryProject) -> ReleaseStore:
    return ReleaseStore(str(project.folder / "data/releases"))


def served(project: RegistryProject) -> str:
    return deployed_release(project.url, store(project), "iris").manifest.release


def monitor(project: RegistryProject) -> tuple[str, str]:
    """Run the pipeline monitoring; gives the status and the decision."""
    project.run("monitoring")
    ((status,),) = table(project, "SELECT status FROM monitoring_runs ORDER BY id DESC LIMIT 1")
    newest = "SELECT decision FROM retraining_decisions ORDER BY id DESC LIMIT 1"
    ((decision,),) = table(project, newest)
    return status, decision


def run_part(project: RegistryProject) -> None:
    with KedroSession.create(project_path=project.folder) as session:
        session.run(pipeline_names=["retrain"], node_names=["choose_rows"])


def mlflow_runs(project: RegistryProject) -> list[Any]:
    """The runs of training and retraining that MLflow shows."""
    experiment = project.client.get_experiment_by_name(project.experiment)
    return list(project.client.search_runs([experiment.experiment_id]))


def test_a_changed_world_is_noticed_learned_and_told_by_the_tables(
    project: RegistryProject,
) -> None:
    first = deployed_release(project.url, store(project), "iris")
    traffic = Traffic(project.url, first, seed=7)

    traffic.serve(500, noise=0.1)
    assert monitor(project) == ("healthy", "none")
    before = len(mlflow_runs(project))
    with refused(NotCalledForError) as refusal:
        project.run("retrain")
    assert "says none" in refusal.message
    assert len(mlflow_runs(project)) == before, "what was not called for leaves no run"

    traffic.serve(500, noise=0.1, relabel=SWAPPED)
    assert monitor(project) == ("alarm", "none")
    traffic.serve(500, noise=0.1, relabel=SWAPPED)
    assert monitor(project) == ("alarm", "retrain")
    # Neither a part of the pipeline nor one that fails ends anything, and both let go.
    run_part(project)
    with pytest.raises(Exception, match="not fit to train on"):
        project.run("retrain", data_checks={"minimum_rows": 10_000})
    assert table(project, "SELECT max(acted_at) FROM retraining_decisions") == [(None,)]

    project.run("retrain")
    with refused(NotCalledForError) as refusal:
        project.run("retrain")
    assert "was acted on" in refusal.message
    second = deployed_release(project.url, store(project), "iris")
    assert second.manifest.release != first.manifest.release
    assert second.manifest.snapshot.row_count == 1_000
    assert second.manifest.snapshot.source.startswith("labelled predictions since")

    traffic.switch(second)
    traffic.serve(500, noise=0.1, relabel=SWAPPED)
    assert monitor(project) == ("healthy", "none")

    accuracy = table(
        project,
        "SELECT value FROM monitoring_metrics WHERE area = 'performance' "
        "AND metric = 'accuracy' AND subject = 'prediction' ORDER BY run_id",
    )
    assert [value > 0.9 for (value,) in accuracy] == [True, False, False, True]
    story = table(
        project,
        "SELECT runs.release, runs.status, decisions.decision, decisions.outcome, "
        "decisions.run_id FROM monitoring_runs runs JOIN retraining_decisions decisions "
        "ON decisions.monitoring_run_id = runs.id ORDER BY runs.id",
    )
    assert [row[:3] for row in story] == [
        (first.manifest.release, "healthy", "none"),
        (first.manifest.release, "alarm", "none"),
        (first.manifest.release, "alarm", "retrain"),
        (second.manifest.release, "healthy", "none"),
    ]
    assert story[2][3].startswith("version 2 promoted: validation accuracy")
    assert story[2][4] == second.manifest.run_id
    assert table(project, "SELECT release, model_version FROM deployments ORDER BY id") == [
        (first.manifest.release, 1),
        (second.manifest.release, 2),
    ]


def test_labels_that_stay_the_newest_start_no_retraining_until_others_say_the_same(
    project: RegistryProject,
) -> None:
    begin = datetime.now(UTC) - timedelta(hours=12)
    release = deployed_release(project.url, store(project), "iris")
    traffic = Traffic(project.url, release, seed=8, start=begin)

    traffic.serve(500, noise=0.1, flip_labels=0.6)
    assert monitor(project) == ("alarm", "none")
    traffic.serve(600, noise=0.1, labelled=0)
    assert monitor(project) == ("alarm", "none")
    traffic.serve(600, noise=0.1, labelled=0)
    assert monitor(project) == ("alarm", "none")

    traffic.serve(500, noise=0.1, flip_labels=0.6)
    assert monitor(project) == ("alarm", "retrain")


def test_a_person_who_has_rolled_back_is_undone_by_a_new_decision_only(
    project: RegistryProject,
) -> None:
    bad = served(project)
    assert monitor(project)[1] == "retrain"
    with engine_for(project.url).connect() as connection:
        roll_back(connection, store(project), "iris", reason="I know better", actor="a person")
    good = served(project)
    assert good != bad

    with refused(NotCalledForError) as refusal:
        project.run("retrain")
    assert "before another release was put in service" in refusal.message

    begin = datetime.now(UTC) - timedelta(hours=6)
    release = deployed_release(project.url, store(project), "iris")
    traffic = Traffic(project.url, release, seed=9, start=begin)
    for _ in range(2):
        traffic.serve(500, noise=0.1, flip_labels=0.6)
        decision = monitor(project)[1]
    assert decision == "retrain"
    # Labels at random teach nothing, so the candidate is rejected; the champion is the bad one.
    project.run("retrain", data_checks={"maximum_label_noise": None})

    ((outcome,),) = table(
        project, "SELECT outcome FROM retraining_decisions WHERE outcome IS NOT NULL "
        "ORDER BY id DESC LIMIT 1"
    )  # fmt: skip
    assert outcome.startswith("version 3 rejected")
    assert served(project) == good
