"""What commands share: durations, and which contract `kedro serve` serves."""

import os
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mlops_for_mle.commands.processes import serve
from mlops_for_mle.commands.project import duration
from tests import PROJECT


def test_a_number_with_a_unit_is_a_duration():
    read = [duration()(text).total_seconds() for text in ("250ms", "1.5s", "5m", "1h", "2d")]
    assert read == [0.25, 1.5, 300, 3600, 172_800]


@pytest.mark.parametrize("text", ["1", "-1s", "1w", "nan", "99999999999999h", "999ms"])
def test_anything_else_and_less_than_allowed_is_refused_with_what_was_found(text):
    with pytest.raises(click.BadParameter, match="at least 1s") as said:
        duration(timedelta(seconds=1))(text)
    assert repr(text) in said.value.message


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
def test_the_option_decides_what_is_served_then_the_variables_then_the_default(
    monkeypatch, options, variables, model
):
    executed: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda path, arguments, given: executed.append(given))
    for name in ("MLOPS_MODEL", "KEDRO_ENV"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    project: Any = SimpleNamespace(project_path=Path(PROJECT))

    result = CliRunner().invoke(serve, options, obj=project)

    assert result.exit_code == 0, result.output
    assert [one["MLOPS_MODEL"] for one in executed] == [model]
