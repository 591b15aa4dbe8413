import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import ValidationError

from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.serving.keys import KeyFile, commands
from tests.serving.conftest import run


def keys(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments, env={"MLOPS_API_KEYS_FILE": str(path)})


def test_a_key_is_printed_once_kept_as_a_digest_for_its_owner_alone_and_revoked(tmp_path):
    path = tmp_path / "new" / "keys.json"

    made = keys(path, "create", "web-shop", "--scope", "predict")

    key = made.stdout.strip()
    assert key.startswith("mlops_")
    assert len(key) == 49
    assert key not in path.read_text()
    assert key not in made.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (kept,) = json.loads(path.read_text())["keys"]
    assert (kept["name"], kept["scopes"]) == ("web-shop", ["predict"])
    KeyFile(path).create("two", ["write"])
    assert keys(path, "revoke", "web-shop").exit_code == 0
    assert [one.name for one in KeyFile(path).read()] == ["two"]
    with pytest.raises(UserError, match="There is a key named two already"):
        KeyFile(path).create("two", ["predict"])


def test_a_mistake_is_one_sentence_and_status_1(tmp_path):
    path = str(tmp_path / "keys.json")
    arguments = ("-m", "mlops_for_mle.serving.keys", "revoke", "two")

    ended = run(*arguments, MLOPS_API_KEYS_FILE=path)

    assert ended.returncode == 1
    assert ended.stderr.strip() == "There is no key named 'two'; there are: none."
    with pytest.raises(ValidationError, match="Kim Lee"):
        KeyFile(tmp_path / "keys.json").create("Kim Lee", ["predict"])


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
