"""Which contract `kedro serve` serves."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from mlops_for_mle.commands.serve import serve
from tests.conftest import PROJECT


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environment of each process that this one would have been replaced by."""
    found: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda path, arguments, variables: found.append(variables))
    for name in ("MLOPS_MODEL", "KEDRO_ENV"):
        monkeypatch.delenv(name, raising=False)
    return found


@pytest.mark.parametrize(
    ("options", "variables", "model"),
    [
        ((), {}, "iris"),
        (("--env", "wine"), {}, "wine"),
        ((), {"KEDRO_ENV": "wine"}, "wine"),
        ((), {"MLOPS_MODEL": "diabetes"}, "diabetes"),
        (("--env", "wine"), {"MLOPS_MODEL": "diabetes"}, "wine"),
    ],
)
def test_the_option_decides_then_the_variables_then_the_default(
    executed: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    variables: dict[str, str],
    model: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    project: Any = SimpleNamespace(project_path=Path(PROJECT))

    result = CliRunner().invoke(serve, options, obj=project)

    assert result.exit_code == 0, result.output
    assert [one["MLOPS_MODEL"] for one in executed] == [model]
