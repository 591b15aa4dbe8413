"""What `kedro model` says and does, on a registry with a promoted and a rejected version."""

import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, MemoryDataset

from mlops_for_mle.cli import cli
from mlops_for_mle.commands.model import Project, project_summary
from mlops_for_mle.settings import HOOKS
from tests.candidates import RegistryProject
from tests.servers import query

pytestmark = pytest.mark.integration

TRAIL = "SELECT event, model_version, reason, actor FROM deployments ORDER BY id"
Kedro = Callable[..., Result]


@pytest.fixture
def project(
    registry_project: RegistryProject,
    good: str,
    poor: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> RegistryProject:
    """Version 1 is champion, version 2 was rejected, and nothing is deployed."""
    registry_project.forget()
    monkeypatch.setenv("MLOPS_RELEASE_STORE", str(tmp_path / "releases"))
    monkeypatch.setenv("MLOPS_ACTOR", "ada")
    for run_id in (good, poor):
        with mlflow.start_run(run_id):
            registry_project.run("registry")
    return registry_project


@pytest.fixture
def kedro_model(project: RegistryProject) -> Kedro:
    def run(*arguments: str, code: int = 0) -> Result:
        metadata = bootstrap_project(project.folder)
        found = CliRunner().invoke(cli, ["model", *arguments], obj=metadata)
        assert found.exit_code == code, found.output
        assert "Traceback" not in found.output
        return found

    return run


def rows_of(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_list_shows_each_version_with_its_metric_decision_and_release(
    kedro_model: Kedro, good: str, poor: str
) -> None:
    kedro_model("promote", "1", "--reason", "first")

    said = kedro_model("list").output

    assert "Versions of iris" in said
    second, first = rows_of(said)
    assert second == ["2", "0.6533", "rejected", "", "", poor]
    assert first[0] == "1"
    assert 0.9 < float(first[1]) <= 1
    assert first[2:] == ["promoted by hand", "champion", f"iris-v1-{good[:8]} (served)", good]


def test_a_metric_that_was_not_measured_is_called_that(
    registry_project: RegistryProject, kedro_model: Kedro, good: str, poor: str
) -> None:
    parameters = registry_project.folder / "conf/local/parameters.yml"
    # Only the poor one gives probabilities.
    parameters.write_text("gates: {metric: roc_auc}\n")
    try:
        rows = rows_of(kedro_model("list").output)
    finally:
        parameters.unlink()

    assert rows[0][1] != "not measured"
    assert rows[1][1] == "not measured"


def test_a_version_is_downloaded_whole_into_a_folder_of_its_own(
    kedro_model: Kedro, good: str, tmp_path: Path
) -> None:
    for wanted in ("1", "champion", good):
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


def test_a_person_may_promote_any_version_and_go_back_and_back_again(
    kedro_model: Kedro, project: RegistryProject, good: str, poor: str
) -> None:
    said = kedro_model("promote", "1", "--reason", "first").output
    name = f"iris-v1-{good[:8]}"
    assert said == f"Version 1 is champion; release {name} is deployed.\n"
    assert "is deployed already." in kedro_model("promote", "1", "--reason", "again").output
    kedro_model("promote", "2", "--reason", "second")
    assert project.champion() == poor
    tags = project.versions()[poor].tags
    assert (tags["mlops.decision"], tags["mlops.reasons"]) == ("promoted by hand", "second")

    said = kedro_model("rollback", "--reason", "worse in practice").output

    expected = f"Rolled back from iris-v2-{poor[:8]} to {name}; version 1 is champion again.\n"
    assert said == expected
    assert project.champion() == good
    said = kedro_model("rollback", "--reason", "bad, too", code=1).output
    assert f"{name} was the first release of iris; there is none to go back to." in said
    assert query(project.url, TRAIL) == [
        ("deploy", 1, "first", "ada"),
        ("deploy", 2, "second", "ada"),
        ("rollback", 1, "worse in practice", "ada"),
    ]


def test_a_row_is_explained_by_what_is_served_from_text_or_a_file(
    kedro_model: Kedro, poor: str, tmp_path: Path
) -> None:
    row = '{"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}'
    file = tmp_path / "row.json"
    file.write_text(row)
    assert "run `kedro run` first" in kedro_model("explain", row, code=1).output
    kedro_model("promote", poor, "--reason", "first")

    said = kedro_model("explain", row).output

    assert kedro_model("explain", str(file)).output == said
    base, *features, total = rows_of(said)
    assert {name for name, *_ in features} == set(re.findall(r'"(\w+)"', row))
    found = [float(one[2]) for one in (base, *features, total)]
    assert sum(found[:-1]) == pytest.approx(found[-1], abs=1e-3)
    # A tree with one question.
    assert len([one for one in found[1:-1] if one]) == 1
    for wrong in (row.replace("6.7", '"long"'), f"[{row}]", str(tmp_path / "none.json")):
        kedro_model("explain", wrong, code=1)


def test_a_release_that_was_never_served_cannot_be_rolled_back_to(kedro_model: Kedro) -> None:
    said = kedro_model("rollback", "--reason", "x", code=1).output
    assert "Nothing of iris is deployed yet: run `kedro run` first." in said
    kedro_model("promote", "1", "--reason", "first")
    kedro_model("promote", "2", "--reason", "second")
    said = kedro_model("rollback", "iris-v9-00000000", "--reason", "x", code=1).output
    assert "expected one of iris-v1-" in said


def test_a_version_that_is_not_there_is_named(kedro_model: Kedro, project: RegistryProject) -> None:
    for arguments in (("promote", "99", "--reason", "x"), ("download", "99", "folder")):
        assert "99" in kedro_model(*arguments, code=1).output
    project.forget()
    assert "There is no version of iris yet: run `kedro run` first." in (
        kedro_model("list", code=1).output
    )


def test_the_summary_tells_where_the_project_stands(
    kedro_model: Kedro, project: RegistryProject, good: str, poor: str
) -> None:
    before = kedro_model("summary").output
    assert "  rows       0 in iris_data, 0 rejected\n" in before
    assert "  candidate  version 2, validation accuracy 0.6533\n" in before
    assert (
        "  decision   rejected: validation accuracy 0.6533 misses the threshold 0.8000; " in before
    )
    assert re.search(r"\n  champion   version 1, validation accuracy 0\.9\d+\n", before)
    assert "  release    none deployed yet" in before
    project.run("deployment")

    after = project_summary(Project(project.contract, "log_loss", "wine", project.url), good)

    assert (
        "  candidate  version 1, validation log_loss not measured\n  decision   promoted: " in after
    )
    assert f"  release    iris-v1-{good[:8]}, deployed 20" in after
    assert after.endswith("\n  serve it   kedro serve --env wine, then http://127.0.0.1:8000")
    assert "make serve, then" in kedro_model("summary").output
    project.forget()
    nothing = project_summary(Project(project.contract, "accuracy", None, project.url))
    assert nothing.splitlines()[1:] == ["  champion  none yet", "  release   none deployed yet"]


def test_a_run_sums_up_its_own_decision_when_another_has_registered_a_version_meanwhile(
    project: RegistryProject, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (hooks,) = HOOKS
    with mlflow.start_run(good):
        project.run("registry")

    catalog = DataCatalog({"params:gates.metric": MemoryDataset("accuracy")})
    hooks.after_pipeline_run({"pipeline_name": None, "env": None}, None, catalog)

    own = capsys.readouterr().out
    assert re.search(r"candidate +version 1, .*\n +decision +promoted: ", own)
