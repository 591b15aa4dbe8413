"""Throw-away Kedro projects: the shipped configuration in a folder of its own."""

import shutil
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from mlops_for_mle.cli import cli


def copy_project(source: Path, folder: Path) -> None:
    """Make a project whose code is the installed package and whose data lie in its folder."""
    shutil.copytree(source / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf/local").mkdir()
    # Kedro insists on the folder and refuses one that is a link out of the project.
    (folder / "src").mkdir()
    shutil.copy(source / "pyproject.toml", folder)


def run_session(
    folder: Path, *pipelines: str, from_nodes: list[str] | None = None, **parameters: Any
) -> None:
    """What `kedro run` does, within this process."""
    bootstrap_project(folder)
    with KedroSession.create(project_path=folder, runtime_params=parameters) as session:
        session.run(pipeline_names=list(pipelines), from_nodes=from_nodes)


def invoke(folder: Path, *arguments: str, code: int = 0) -> Result:
    """What a person reads who runs one of the project's commands, and whether it ends well."""
    result = CliRunner().invoke(cli, arguments, obj=bootstrap_project(folder))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result
