import json
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.serving.keys import KeyFile
from tests.serving.conftest import run


def keys(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "mlops_for_mle.serving.keys", *arguments, MLOPS_API_KEYS_FILE=str(path))


def test_a_key_is_printed_once_kept_as_a_digest_for_its_owner_alone_and_revoked(tmp_path):
    path = tmp_path / "new" / "keys.json"

    made = keys(path, "create", "web-shop", "--scope", "predict")

    assert made.returncode == 0
    key = made.stdout.strip()
    assert key.startswith("mlops_")
    assert len(key) == 49
    assert key not in path.read_text()
    assert key not in made.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (kept,) = json.loads(path.read_text())["keys"]
    assert (kept["name"], kept["scopes"]) == ("web-shop", ["predict"])
    KeyFile(path).create("two", ["write"])
    assert keys(path, "revoke", "web-shop").returncode == 0
    assert [one.name for one in KeyFile(path).read()] == ["two"]


def test_mistakes_are_one_sentence_and_status_1(tmp_path):
    path = tmp_path / "keys.json"
    KeyFile(path).create("one", ["predict"])

    unknown = keys(path, "revoke", "two")
    wrong = keys(path, "create", "Kim Lee", "--scope", "predict")

    assert unknown.returncode == wrong.returncode == 1
    assert unknown.stderr.strip() == "There is no key named 'two'; there are: one."
    assert "'Kim Lee'" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    with pytest.raises(UserError, match="There is a key named one already"):
        KeyFile(path).create("one", ["predict"])


def test_a_file_that_is_not_valid_is_named_and_its_content_is_not_shown(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text('{"keys": [{"name": "a", "scopes": ["root"], "sha256": "mlops_secret"}]}')

    with pytest.raises(ConfigurationError) as caught:
        KeyFile(path).read()

    assert str(path) in str(caught.value)
    assert "keys.0.scopes.0" in str(caught.value)
    assert "mlops_secret" not in str(caught.value)


def test_keys_made_at_the_same_time_are_all_kept(tmp_path):
    file = KeyFile(tmp_path / "keys.json")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: file.create(f"key-{n}", ["predict"]), range(40)))

    assert {one.name for one in file.read()} == {f"key-{n}" for n in range(40)}
