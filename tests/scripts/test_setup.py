"""`make setup` on a small project: real uv, real pip."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from tests import PROJECT
from tests.expectations import run, succeed
from tests.servers import http_server

PYTHON = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
PYPROJECT = '[project]\nname = "small"\nversion = "1"\nrequires-python = ">=3.11,<3.15"\n'
BUILD_SYSTEM = '[build-system]\nrequires = ["uv_build"]\nbuild-backend = "uv_build"\n'
AWKWARD = "자료 & (a) #1; b"


def _uv() -> Path:
    found = shutil.which("uv") or next(PROJECT.glob(".tools/uv-*/bin/uv"))
    return Path(found)


class Small:
    """A project of its own with the script of ours."""

    def __init__(self, folder: Path, dependencies: str = "[]", index: str = "") -> None:
        self.folder = folder
        self.programs = folder.parent / "programs"
        self.programs.mkdir()
        (self.programs / "python3").symlink_to(PYTHON)
        (self.programs / "uv").symlink_to(_uv())
        (folder / "scripts").mkdir(parents=True)
        shutil.copy(PROJECT / "scripts/setup.sh", folder / "scripts")
        (folder / "pyproject.toml").write_text(f"{PYPROJECT}dependencies = {dependencies}\n")
        self.lock(index)

    def lock(self, index: str) -> None:
        where = ["--default-index", index] if index else ["--offline"]
        command = (_uv(), "lock", *where, "--quiet", "--no-config", "--python", PYTHON)
        succeed(*command, cwd=self.folder, env=self.environment(UV_OFFLINE="0"))

    def setup(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the script from another folder, as `make -C` may."""
        script, environment = self.folder / "scripts/setup.sh", self.environment(**variables)
        return run(script, *arguments, cwd="/", env=environment)

    def succeed(self, *arguments: str, **variables: str) -> str:
        finished = self.setup(*arguments, **variables)
        assert (finished.returncode, finished.stdout) == (0, ""), finished.stderr
        return finished.stderr

    def take_venv_away(self) -> None:
        """Leave a Python that makes half of an environment, as Debian's without python3-venv."""
        python = self.programs / "python3"
        python.unlink()
        half = 'mkdir -p "$3/bin" && exit 1'
        python.write_text(f'#!/bin/sh\n[ "$2" != venv ] || {{ {half}; }}\nexec {PYTHON} "$@"\n')
        python.chmod(0o755)

    def has_its_environment(self) -> bool:
        command = [self.folder / ".venv/bin/python", "-c", "import sys; print(sys.prefix)"]
        return succeed(*command) == f"{self.folder}/.venv\n"

    def has_the_greeting(self) -> bool:
        return any(self.folder.glob(".venv/lib/*/site-packages/greeting"))

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("UV_", "PIP_", "PYTHON"))}
        home = self.folder.parent / "home"
        home.mkdir(exist_ok=True)
        path = f"{self.programs}:/usr/bin:/bin"
        return {**kept, "HOME": str(home), "PATH": path, "UV_OFFLINE": "1", **variables}


@pytest.fixture
def small(tmp_path):
    return Small(tmp_path / AWKWARD)


def test_it_makes_the_environment_and_says_nothing_when_that_is_up_to_date(small, tmp_path):
    # Settings for other projects lead nowhere else.
    other = {name: str(tmp_path / "other") for name in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    other |= {"UV_PROJECT": str(tmp_path / "other"), "UV_FROZEN": "1"}
    assert "Making .venv" in small.succeed(**other)
    assert small.has_its_environment()
    assert not (tmp_path / "other").exists()
    assert small.succeed() == ""


def test_a_folder_in_which_nothing_could_run_is_refused_at_once(small, tmp_path):
    for character in "[]?*%'\"$`\\":
        small.folder = small.folder.rename(tmp_path / f"a{character}b")
        finished = small.setup()
        assert (finished.returncode, finished.stdout) == (1, "")
        assert str(small.folder) in finished.stderr
        assert len(finished.stderr.splitlines()) == 1
        assert not (small.folder / ".venv").exists()


def test_an_environment_that_is_half_made_or_of_another_place_is_made_again(small, tmp_path):
    small.succeed()
    (small.folder / ".venv/complete").unlink()
    (small.folder / ".venv/lib/half").touch()
    assert "Making .venv" in small.succeed()
    assert not (small.folder / ".venv/lib/half").exists()

    small.folder = small.folder.rename(tmp_path / "moved")
    assert "Making .venv" in small.succeed()
    assert f"{small.folder}/.venv" in (small.folder / ".venv/bin/activate").read_text("utf-8")


def test_a_folder_of_that_name_which_is_no_environment_is_kept(small):
    (small.folder / ".venv").mkdir()
    own = small.folder / ".venv/notes.txt"
    own.touch()
    finished = small.setup()
    assert finished.returncode == 1
    assert ".venv" in finished.stderr
    assert own.exists()


def test_the_interpreter_can_be_named_by_version_or_path(small):
    small.succeed(PYTHON="{}.{}".format(*sys.version_info[:2]))
    assert small.succeed(UV_PYTHON=str(PYTHON)) == ""
    finished = small.setup(PYTHON="3.99")
    assert finished.returncode == 1
    assert "3.99" in finished.stderr


def test_a_second_make_waits_for_the_first(small):
    (small.folder / ".tools").mkdir()
    command = [small.folder / "scripts/setup.sh"]
    with (small.folder / ".tools/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(command, env=small.environment(), stderr=subprocess.PIPE)
        assert second.stderr is not None
        assert second.stderr.readline().startswith(b"Waiting for another make")
    second.communicate()
    assert second.returncode == 0


@pytest.mark.parametrize("how", ["PIP_INDEX_URL", "UV_DEFAULT_INDEX", "pip.conf"])
def test_packages_come_from_the_index_that_a_person_has_set(tmp_path, how):
    """The lock file names the addresses of another one, which does not answer any more."""
    with _index(tmp_path / "first") as first:
        small = Small(tmp_path / "project", '["greeting"]', first)
    assert first in (small.folder / "uv.lock").read_text("utf-8")
    with _index(tmp_path / "second") as second:
        variables = {"UV_OFFLINE": "0"}
        if how == "pip.conf":
            folder = tmp_path / "home/.config/pip"
            folder.mkdir(parents=True)
            (folder / "pip.conf").write_text(f"[global]\nindex-url = {second}\n")
        else:
            variables[how] = second
        small.succeed(**variables)
    assert small.has_the_greeting()
    assert small.succeed(**variables) == ""


def test_a_group_comes_on_demand_and_with_jupyterlab_it_stays(tmp_path):
    with _index(tmp_path / "index") as index:
        small = Small(tmp_path / "project", index=index)
        with (small.folder / "pyproject.toml").open("a") as file:
            file.write('[dependency-groups]\nnotebooks = ["greeting"]\n')
        small.lock(index)
        variables = {"UV_OFFLINE": "0", "UV_DEFAULT_INDEX": index}

        small.succeed("--group", "notebooks", **variables)
        assert small.has_the_greeting()
        # As JupyterLab would, which a learner may have open in another terminal.
        (small.folder / ".venv/bin/jupyter-lab").touch()
        assert small.succeed(**variables) == ""
        assert small.has_the_greeting()
        (small.folder / ".venv/bin/jupyter-lab").unlink()
        small.succeed(**variables)
        assert not small.has_the_greeting()


def test_without_uv_it_says_what_to_install_or_what_pip_said(small):
    (small.programs / "uv").unlink()
    small.take_venv_away()
    finished = small.setup(PIP_NO_INDEX="1")
    assert finished.returncode == 1
    assert "make: pip could not install uv" in finished.stderr
    assert "No matching distribution found for uv" in finished.stderr
    assert not (small.folder / ".venv").exists()

    (small.programs / "python3").unlink()
    for name in ("dirname", "cat", "sed", "head", "mkdir", "rm", "flock"):
        (small.programs / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    finished = small.setup(PATH=str(small.programs))
    assert finished.returncode == 1
    assert "make: No Python with venv or pip was found" in finished.stderr


@pytest.mark.parametrize("has_venv", [True, False])
def test_without_uv_it_installs_one_beside_the_project(small, has_venv):
    (small.programs / "uv").unlink()
    if not has_venv:
        small.take_venv_away()
    settings = {n: v for n, v in os.environ.items() if n.startswith("PIP_")}
    finished = small.setup(**settings)
    if "pip could not install uv" in finished.stderr:
        pytest.skip("no package index answers")
    assert finished.returncode == 0, finished.stderr
    assert small.has_its_environment()
    assert small.succeed() == ""


def test_the_image_has_the_uv_that_make_setup_installs():
    script = (PROJECT / "scripts/setup.sh").read_text("utf-8")
    version = re.search(r"^version=(.+)$", script, re.MULTILINE)
    assert version is not None
    assert f" uv=={version[1]}\n" in (PROJECT / "Dockerfile").read_text("utf-8")


@contextmanager
def _index(folder: Path) -> Iterator[str]:
    """A package index with one package, as long as it is needed."""
    (folder / "src/greeting").mkdir(parents=True)
    (folder / "src/greeting/__init__.py").touch()
    project = PYPROJECT.replace("small", "greeting") + BUILD_SYSTEM
    (folder / "pyproject.toml").write_text(project)
    built = folder / "simple/greeting"
    succeed(_uv(), "build", "--quiet", "--offline", "--wheel", "--out-dir", built, folder)
    (wheel,) = built.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (built / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with http_server(handler) as url:
        yield f"{url}/simple"
