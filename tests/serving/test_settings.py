import re
from pathlib import Path

import pytest

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.serving.settings import ServingSettings
from tests.serving.conftest import run


def test_options_come_before_variables_and_both_before_folders_of_the_project(
    monkeypatch, tmp_path
):
    for name, value in (("PROJECT_PATH", str(tmp_path)), ("CACHE", "/elsewhere"), ("PORT", "9000")):
        monkeypatch.setenv(f"MLOPS_{name}", value)

    settings = ServingSettings.load(arguments=["--port", "9001"])

    assert settings.release_store == str(tmp_path / "data" / "releases")
    assert (settings.cache, settings.port) == (Path("/elsewhere"), 9001)
    assert ServingSettings.load().port == 9000


def test_wrong_variables_are_named_with_their_value_and_what_is_allowed(monkeypatch):
    monkeypatch.setenv("MLOPS_PORT", "99999")
    monkeypatch.setenv("MLOPS_LOG_LEVEL", "loud")

    with pytest.raises(ConfigurationError) as caught:
        ServingSettings.load()

    port, level = str(caught.value).splitlines()
    assert re.match("MLOPS_PORT: .*65535.*'99999'", port)
    assert re.match("MLOPS_LOG_LEVEL: .*warning.*'loud'", level)


def test_a_wrong_option_ends_the_program_with_status_2_and_no_traceback():
    ended = run("-m", "mlops_for_mle.serving", "--port", "http")

    assert ended.returncode == 2
    assert ended.stderr.startswith("MLOPS_PORT: ")
    assert "'http'" in ended.stderr
    assert ended.stderr.count("\n") == 1
