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


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("MLOPS_PORT", "99999", "65535"),
        ("MLOPS_MODEL", "No Name", "a-z"),
        ("MLOPS_LOG_LEVEL", "loud", "warning"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_what_is_allowed(
    monkeypatch, variable, value, allowed
):
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError, match=f"^{variable}: .*'{value}'") as caught:
        ServingSettings.load()

    assert allowed in str(caught.value)


def test_a_wrong_option_ends_the_program_with_status_2_and_no_traceback():
    ended = run("-m", "mlops_for_mle.serving", "--port", "http")

    assert ended.returncode == 2
    assert ended.stderr.startswith("MLOPS_PORT: ")
    assert "'http'" in ended.stderr
    assert ended.stderr.count("\n") == 1
