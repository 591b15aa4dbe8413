import json
import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from mlops_for_mle.serving.keys import KeyFile
from tests.stack.compose_file import PROJECT

ONE, OTHER = (sha256(text).hexdigest() for text in (b"one", b"other"))


def preflight(folder: Path, stack: str = ONE, metrics: str = OTHER) -> int:
    return subprocess.run(
        [PROJECT / "deploy/bin/preflight", folder],
        env={"PATH": os.environ["PATH"], "API_KEY_SHA256": stack, "METRICS_KEY_SHA256": metrics},
        capture_output=True,
        check=False,
    ).returncode


def test_the_keys_are_valid_ones_of_which_prometheus_only_reads(tmp_path):
    assert preflight(tmp_path) == 0
    path = tmp_path / "api_keys.json"
    found = {key.name: key for key in KeyFile(path).read() or ()}
    assert found["stack"].scopes == ("predict", "write")
    assert found["metrics"].scopes == ("read",)
    assert (found["stack"].sha256, found["metrics"].sha256) == (ONE, OTHER)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_key_replaces_the_one_before_and_leaves_those_of_people(tmp_path):
    preflight(tmp_path)
    path = tmp_path / "api_keys.json"
    KeyFile(path).create("kim", ["predict"])
    before = json.loads(path.read_text("utf-8"))
    assert preflight(tmp_path) == 0
    assert json.loads(path.read_text("utf-8")) == before
    preflight(tmp_path, stack=OTHER)
    after = {key["name"]: key for key in json.loads(path.read_text("utf-8"))["keys"]}
    assert after["stack"]["sha256"] == OTHER
    assert [key for key in before["keys"] if key["name"] != "stack"] == [
        key for name, key in after.items() if name != "stack"
    ]


@pytest.mark.parametrize("digests", [{"stack": ""}, {"metrics": ""}])
def test_without_digests_older_keys_stay_and_a_stack_without_any_does_not_start(tmp_path, digests):
    assert preflight(tmp_path, **digests) == 1
    preflight(tmp_path)
    before = (tmp_path / "api_keys.json").read_bytes()
    assert preflight(tmp_path, **digests) == 0
    assert (tmp_path / "api_keys.json").read_bytes() == before
