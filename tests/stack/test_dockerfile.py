import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.stack.compose_file import PROJECT

SERVING = PROJECT / "src/mlops_for_mle/serving"
BROUGHT_BY_FASTAPI = {"anyio", "starlette"}


def test_hadolint_has_nothing_to_say() -> None:
    found = subprocess.run(
        ["hadolint", PROJECT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_the_api_image_gets_neither_kedro_nor_mlflow() -> None:
    lock = tomllib.loads((PROJECT / "uv.lock").read_text("utf-8"))
    packages = {package["name"]: package for package in lock["package"]}
    project = packages["mlops-for-mle"]
    waiting = [*project["dependencies"], *project["optional-dependencies"]["s3"]]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()["name"]
        if name not in found:
            found.add(name)
            waiting += packages[name].get("dependencies", [])
    assert {"fastapi", "onnxruntime", "s3fs"} <= found
    assert found.isdisjoint({"kedro", "mlflow", "pandas", "scikit-learn", "pyarrow"})


SCRIPTS = [
    *(PROJECT / "deploy/bin").iterdir(),
    *(PROJECT / "deploy").glob("*.sh"),
    *(PROJECT / "deploy/postgres").iterdir(),
    *(PROJECT / "scripts").glob("*.sh"),
]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_run_and_says_by_what(path: Path) -> None:
    assert path.stat().st_mode & 0o111
    assert path.read_text("utf-8").startswith("#!")


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    plain = [path for path in SCRIPTS if path.read_text("utf-8").startswith("#!/bin/sh\n")]
    assert len(plain) >= 6
    found = subprocess.run(["shellcheck", *plain], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_api_image_has_every_package_that_serving_imports() -> None:
    """Here the packages of the pipelines are installed too, so that importing proves nothing."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[\[<>=]", line)[0] for line in project["dependencies"]}
    distributions = packages_distributions()
    waiting, seen, missing = ["mlops_for_mle.serving.__main__"], set[str](), dict[str, str]()
    waiting += [
        f"mlops_for_mle.serving.{'.'.join(path.relative_to(SERVING).with_suffix('').parts)}"
        for path in SERVING.rglob("*.py")
    ]
    while waiting:
        module = waiting.pop()
        path = PROJECT / "src" / f"{module.replace('.', '/')}.py"
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        for name in _imported_at_start(path):
            top = name.partition(".")[0]
            if top == "mlops_for_mle":
                waiting.append(name)
            elif top not in sys.stdlib_module_names:
                found = {one.lower().replace("_", "-") for one in distributions[top]}
                if not found & (declared | BROUGHT_BY_FASTAPI):
                    missing[top] = module
    assert len(seen) > 20
    assert missing == {}


def _imported_at_start(path: Path) -> Iterator[str]:
    """The modules that are imported when this one is; those inside functions are left out."""
    for statement in ast.parse(path.read_text("utf-8")).body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)
