import os
from hashlib import sha256
from pathlib import Path

import pytest

from mlops_for_mle.serving.keys import KeyFile
from tests import PROJECT
from tests.expectations import run

ONE, OTHER, NEW = (sha256(text).hexdigest() for text in (b"one", b"other", b"new"))


def preflight(folder: Path, stack: str = ONE, metrics: str = OTHER) -> int:
    variables = {"API_KEY_SHA256": stack, "METRICS_KEY_SHA256": metrics}
    environment = {"PATH": os.environ["PATH"]} | variables
    return run(PROJECT / "deploy/bin/preflight", folder, env=environment).returncode


def test_the_stacks_own_keys_are_let_in_and_replaced_while_those_of_people_stay(tmp_path):
    path = tmp_path / "api_keys.json"
    assert preflight(tmp_path) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    KeyFile(path).create("kim", ["predict"])
    before = KeyFile(path).read()
    (of_kim,) = (key for key in before if key.name == "kim")

    assert preflight(tmp_path) == 0
    assert KeyFile(path).read() == before
    assert preflight(tmp_path, stack=NEW) == 0
    after = {key.name: key for key in KeyFile(path).read()}

    assert after.pop("kim") == of_kim
    assert {name: (key.scopes, key.sha256) for name, key in after.items()} == {
        "stack": (("predict", "write"), NEW),
        "metrics": (("read",), OTHER),
    }


@pytest.mark.parametrize("digests", [{"stack": ""}, {"metrics": ""}])
def test_without_digests_older_keys_stay_and_a_stack_without_any_does_not_start(tmp_path, digests):
    assert preflight(tmp_path, **digests) == 1
    preflight(tmp_path)
    before = (tmp_path / "api_keys.json").read_bytes()
    assert preflight(tmp_path, **digests) == 0
    assert (tmp_path / "api_keys.json").read_bytes() == before
