"""What `kedro model` says and does, on a registry with a promoted and a rejected version."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.session import KedroSession
from mlflow.cli import gc

from mlops_for_mle.commands.model import project_summary
from mlops_for_mle.pipelines.training import nodes
from tests.projects import invoke
from tests.servers import query

TRAIL = "SELECT event, model_version, reason, actor FROM deployments ORDER BY id"
ROW = '{"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}'


@pytest.fixture(scope="module")
def project(registry_project, good, poor, tmp_path_factory):
    """Version 1 is champion, version 2 was rejected, and nothing is deployed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_RELEASE_STORE", str(tmp_path_factory.mktemp("releases")))
        patch.setenv("MLOPS_ACTOR", "ada")
        for run_id in (good, poor):
            with mlflow.start_run(run_id):
                registry_project.run("registry")
        yield registry_project


@pytest.fixture
def kedro_model(project):
    """Runs a command; whatever it has deployed or decided is forgotten afterwards."""
    before = project.versions()
    yield partial(invoke, project.folder, "model")
    query(project.url, "TRUNCATE deployments")
    for version in before.values():
        for tag in version.tags.items():
            project.client.set_model_version_tag("iris", version.version, *tag)
    project.client.set_registered_model_alias("iris", "champion", "1")


def rows_of(listing: str) -> list[list[str]]:
    return [line.split() for line in listing.splitlines()[1:]]


def test_the_server_that_mlflow_yml_names_is_asked_and_keeps_the_artifacts(
    kedro_model, project, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before, settings = mlflow.get_tracking_uri(), project.folder / "conf/local/mlflow.yml"

    def artifact_location() -> str | None:
        with KedroSession.create(project.folder) as session:
            experiment = session.load_context().mlflow.tracking.experiment
        return experiment.create_experiment_kwargs.artifact_location

    assert artifact_location() == (project.folder / "data/mlflow/artifacts").as_uri()
    try:
        for key in ("registry", "tracking"):
            settings.write_text(f"server: {{mlflow_{key}_uri: 'http://127.0.0.1:1'}}")
            assert "http://127.0.0.1:1" in kedro_model("list", code=1).output
        assert artifact_location() is None
    finally:
        settings.unlink()
        mlflow.set_tracking_uri(before)
        mlflow.set_registry_uri(None)


def test_the_summary_tells_where_the_project_stands(kedro_model, project, good):
    before = kedro_model("summary").output
    assert "  rows       0 in iris_data, 0 rejected\n" in before
    assert "  candidate  version 2, validation accuracy 0.6579\n" in before
    assert (
        "  decision   rejected: validation accuracy 0.6579 misses the threshold 0.8000; " in before
    )
    assert re.search(r"\n  champion   version 1, validation accuracy 0\.9\d+\n", before)
    assert "  release    none deployed yet" in before
    project.run("deployment")

    after = project_summary(project.contract, "log_loss", "wine", good)

    assert "  candidate  version 1, validation log_loss not measured\n" in after
    assert "  decision   promoted: " in after
    assert f"  release    iris-v1-{good[:8]}, deployed 20" in after
    assert after.endswith("\n  serve it   kedro serve --env wine, then http://127.0.0.1:8000")
    assert "make serve, then" in kedro_model("summary").output
    assert " 0 in wine_data, 0 rejected\n" in kedro_model("summary", "-e", "wine").output


def test_a_version_is_downloaded_whole_into_a_folder_of_its_own(kedro_model, good, tmp_path):
    for wanted in ("champion", good):
        folder = tmp_path / wanted
        assert f"Downloaded to {folder}" in kedro_model("download", wanted, str(folder)).output
        names = {path.name for path in folder.rglob("*")}
        wanted_files = {"MLmodel", "model.skops", "model.onnx", "description.json"}
        assert wanted_files | {"validation.parquet"} <= names

    mine = tmp_path / "precious"
    mine.mkdir()
    (mine / "mine").write_text("precious")
    assert "is not empty" in kedro_model("download", "1", str(mine), code=1).output
    assert [path.name for path in mine.iterdir()] == ["mine"]


def test_what_cannot_be_done_names_what_was_asked_for_or_what_comes_first(kedro_model):
    for arguments in (("promote", "99", "--reason", "x"), ("download", "99", "folder")):
        assert "99" in kedro_model(*arguments, code=1).output
    for arguments in (("rollback", "--reason", "x"), ("explain", __file__), ("list", "-e", "wine")):
        assert "run `kedro run` first" in kedro_model(*arguments, code=1).output


def test_a_person_may_promote_any_version_and_go_back_and_back_again(
    kedro_model, project, good, poor
):
    second, first = (f"iris-v2-{poor[:8]}", f"iris-v1-{good[:8]}")
    said = kedro_model("promote", "1", "--reason", "first").output
    assert said == f"Version 1 is champion; release {first} is deployed.\n"
    refused = kedro_model("rollback", "--reason", "x", code=1).output
    assert "no other was deployed" in refused
    assert kedro_model("promote", "1", "--reason", "again").output == said
    kedro_model("promote", "2", "--reason", "second")
    assert project.champion() == poor
    tags = project.versions()[poor].tags
    assert (tags["mlops.decision"], tags["mlops.reasons"]) == ("promoted by hand", "second")
    said = kedro_model("rollback", "iris-v9-00000000", "--reason", "x", code=1).output
    assert f"expected one of {first}" in said

    said = kedro_model("rollback", "--reason", "worse in practice").output

    assert said == f"Rolled back from {second} to {first}.\n"
    assert project.champion() == good
    said = kedro_model("rollback", "--reason", "bad, too", code=1).output
    assert f"Cannot roll back from {first} to an earlier release: expected one of {second}" in said
    assert query(project.url, TRAIL) == [
        ("deploy", 1, "first", "ada"),
        ("deploy", 2, "second", "ada"),
        ("rollback", 1, "worse in practice", "ada"),
    ]
    newer, older = rows_of(kedro_model("list").output)
    assert newer == ["2", "0.6579", "promoted", "by", "hand", poor, second]
    assert 0.9 < float(older.pop(1)) <= 1
    by_hand = ["promoted", "by", "hand"]
    assert older == ["1", "champion", *by_hand, good, first, "(served)"]

    # Another registry may have given the same number.
    kedro_model("promote", "2", "--reason", "third")
    query(project.url, "UPDATE deployments SET run_id = 'elsewhere' WHERE model_version = 1")
    kedro_model("rollback", "--reason", "worse")
    assert project.champion() == poor
    newer, older = rows_of(kedro_model("list").output)
    assert (newer[-1], older[-1]) == (second, good)


def test_a_row_is_explained_by_what_is_served(kedro_model, poor, tmp_path):
    file = tmp_path / "row.json"
    file.write_text(ROW)
    kedro_model("promote", poor, "--reason", "first")

    answer, *lines = kedro_model("explain", str(file)).output.splitlines()

    assert answer.endswith(", by its probability")
    _, *features, _ = (line.split()[0] for line in lines)
    assert set(features) == set(re.findall(r'"(\w+)"', ROW))
    found = [float(line.split()[-1]) for line in lines]
    assert sum(found[:-1]) == pytest.approx(found[-1], abs=1e-3)
    # A tree with one question.
    assert len([one for one in found[1:-1] if one]) == 1
    file.write_text(ROW.replace("6.7", "67"))
    said = kedro_model("explain", str(file), code=1).stderr
    assert "sepal_length: is too large, found 67; allowed: a number" in said


def test_a_run_sums_up_its_own_decision_when_another_has_registered_a_version_meanwhile(
    project, good, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_RUN_ID", good)

    project.run("__default__", from_nodes=["compare_models"])

    own = capsys.readouterr().out
    assert re.search(r"candidate +version 1, .*\n +decision +promoted: ", own)


def test_what_comes_out_otherwise_or_was_altered_is_not_reproduced(
    kedro_model, project, monkeypatch
):
    """That the same comes out is seen in tests/end_to_end/test_whole_line.py."""
    for pipeline in ("data_ingestion", "training", "registry"):
        project.run(pipeline)
    prepare = nodes.prepare_examples

    def otherwise(rows: Any, contract: Any, training: Any) -> Any:
        return prepare(rows, contract, training.model_copy(update={"seed": training.seed + 1}))

    monkeypatch.setattr(nodes, "prepare_examples", otherwise)
    said = kedro_model("reproduce", "3", code=1).output
    assert "Error: Not reproduced: " in said
    assert " then, " in said

    (version,) = (one for one in project.versions().values() if one.version == 3)
    run = project.client.get_run(version.run_id)
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "snapshot/snapshot.parquet"
    pd.read_parquet(path).iloc[:-1].to_parquet(path, index=False)
    said = kedro_model("reproduce", "3", code=1).output
    assert "Version 3 of iris: its snapshot was altered" in said


def test_a_version_whose_run_was_deleted_for_good_is_listed_with_the_others(
    kedro_model, project, monkeypatch
):
    client, experiment = project.client, project.client.get_experiment_by_name(project.experiment)
    run_id = client.create_run(experiment.experiment_id).info.run_id
    version = client.create_model_version("iris", f"runs:/{run_id}/model", run_id)
    client.delete_run(run_id)
    store = ["--backend-store-uri", mlflow.get_tracking_uri(), "--run-ids", run_id]
    assert CliRunner().invoke(gc, store).exit_code == 0

    # Runs are asked for all at once.
    monkeypatch.delattr(mlflow.MlflowClient, "get_run")
    listed = rows_of(kedro_model("list").output)

    assert [row[1:3] for row in listed].count(["not", "measured"]) == 1
    client.delete_model_version("iris", version.version)
