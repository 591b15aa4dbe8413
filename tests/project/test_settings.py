import os
import shutil
import subprocess
import sys
from pathlib import Path

from mlops_for_mle.settings import ENVIRONMENT
from tests import PROJECT

SHOW_ENVIRONMENT = """
import os, sys
import mlops_for_mle.settings, mlops_for_mle.commands.processes
print({name: os.environ[name] for name in mlops_for_mle.settings.ENVIRONMENT})
heavy = {"mlflow", "kedro_mlflow", "pandas", "sklearn", "sqlalchemy"} & set(sys.modules)
assert not heavy, heavy
"""

WARN = """
import warnings
import mlops_for_mle.settings
warnings.warn("Option '--pipeline' is deprecated and more", DeprecationWarning, stacklevel=1)
warnings.warn("Add type hints to the `predict` method of this class", UserWarning, stacklevel=1)
warnings.warn("a warning of the person's own", UserWarning, stacklevel=1)
"""


def run(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    command, chosen = [sys.executable, "-W", "always", "-c", code], environment | variables
    options = {"capture_output": True, "text": True}
    return subprocess.run(command, cwd=folder, env=chosen, check=True, **options)


def test_defaults_are_set_a_persons_choice_stays_and_nothing_heavy_is_imported(tmp_path):
    found = run(SHOW_ENVIRONMENT, tmp_path, MLFLOW_LOGGING_LEVEL="DEBUG")

    *_, told = found.stdout.splitlines()
    assert told == str(ENVIRONMENT | {"MLFLOW_LOGGING_LEVEL": "DEBUG"})


def test_only_the_warnings_that_plugins_must_mend_are_dropped(tmp_path):
    shown = run(WARN, tmp_path).stderr

    assert shown.count("UserWarning: a warning of the person's own") == 1
    assert "--pipeline" not in shown
    assert "type hints" not in shown


def test_kedro_does_it_in_this_project_only(tmp_path):
    code = (
        "import os, sys\nfrom unittest.mock import patch\nfrom kedro.framework.cli import cli\n"
        "with patch.object(cli.KedroCLI, 'main'): cli.main()\n"
        "print('DO_NOT_TRACK' in os.environ, 'mlops_for_mle' in sys.modules)"
    )

    assert run(code, tmp_path).stdout.endswith("False False\n")
    assert run(code, PROJECT / "notebooks").stdout.endswith("True True\n")


def test_a_wheel_keeps_its_data_in_the_folder_that_it_is_called_in(tmp_path, monkeypatch):
    monkeypatch.delenv("MLOPS_PROJECT_PATH", raising=False)
    (tmp_path / "site-packages/mlops_for_mle").mkdir(parents=True)
    for name in ("__init__", "paths"):
        source = PROJECT / f"src/mlops_for_mle/{name}.py"
        shutil.copy(source, tmp_path / "site-packages/mlops_for_mle")
    code = "from mlops_for_mle.paths import project_path\nprint(project_path())"

    in_wheel = run(code, tmp_path, PYTHONPATH=str(tmp_path / "site-packages"))

    assert in_wheel.stdout == f"{tmp_path.resolve()}\n"
    assert run(code, tmp_path).stdout == f"{PROJECT}\n"


def test_a_program_that_imports_main_runs_what_it_asks_for():
    code = "from mlops_for_mle.__main__ import main\nmain(['--help'])"

    assert "--only-missing-outputs" in run(code, PROJECT, KEDRO_ENV="of nobody").stdout
