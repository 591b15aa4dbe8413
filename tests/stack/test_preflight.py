import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack.compose_file import EXAMPLE, PROJECT, TUTORIAL_ENVIRONMENT, environment_file

SCRIPT = PROJECT / "deploy/bin/preflight.py"
PLACEHOLDERS = [n for n, value in environment_file(EXAMPLE).items() if value == "change-me"]
STRONG = {name: f"k{number}-3f9c2a7d51e84b60a1" for number, name in enumerate(PLACEHOLDERS)}


def preflight(
    secrets: dict[str, str], folder: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *([folder] if folder else [])],
        env={"PATH": os.environ["PATH"], **secrets, **more},
        capture_output=True,
        text=True,
        check=False,
    )


def test_random_secrets_are_accepted() -> None:
    found = preflight(STRONG)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_example_is_refused_with_one_line_for_each_placeholder() -> None:
    found = preflight(environment_file(EXAMPLE))
    assert found.returncode == 2
    complaints = [line for line in found.stderr.splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in complaints] == list(STRONG)
    assert "make up" in found.stderr


@pytest.mark.parametrize(
    "value", ["", "short-x7", "my-company-password-1", "with spaces in 3f9c2a7d51e8"]
)
def test_a_weak_secret_is_named_but_not_shown(value: str) -> None:
    found = preflight(STRONG | {"MINIO_ROOT_PASSWORD": value})
    assert found.returncode == 2
    assert "MINIO_ROOT_PASSWORD" in found.stderr
    assert not value or value not in found.stderr


def test_the_tutorials_passwords_are_refused_unless_the_stack_is_declared_local() -> None:
    tutorial = environment_file(TUTORIAL_ENVIRONMENT)
    assert tutorial.pop("MLOPS_LOCAL") == "1"
    assert preflight(tutorial).returncode == 2
    assert preflight(tutorial, MLOPS_LOCAL="1").returncode == 0


def test_the_api_key_is_kept_as_a_digest_that_its_owner_alone_can_read(tmp_path: Path) -> None:
    assert preflight(STRONG, tmp_path).returncode == 0
    path = tmp_path / "api_keys.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert STRONG["MLOPS_API_KEY"] not in path.read_text("utf-8")


def test_a_new_api_key_replaces_the_one_before_and_leaves_those_of_people(tmp_path: Path) -> None:
    path = tmp_path / "api_keys.json"
    preflight(STRONG, tmp_path)
    command = [sys.executable, "-m", "mlops_for_mle.serving.keys", "--file", path]
    subprocess.run(
        [*command, "create", "kim", "--scope", "predict"], check=True, capture_output=True
    )
    before = _digests(path)
    assert preflight(STRONG, tmp_path).stdout == ""
    assert _digests(path) == before
    preflight(STRONG | {"MLOPS_API_KEY": "mlops_another-8d1f0b7e6a"}, tmp_path)
    after = _digests(path)
    assert after["kim"] == before["kim"]
    assert after["stack"] != before["stack"]


def _digests(path: Path) -> dict[str, str]:
    return {key["name"]: key["sha256"] for key in json.loads(path.read_text("utf-8"))["keys"]}
