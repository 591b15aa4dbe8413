import subprocess
import tomllib
from pathlib import Path

from tests.stack.compose_file import PROJECT


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


def test_scripts_of_the_images_can_be_run() -> None:
    scripts = [*(PROJECT / "deploy/bin").iterdir(), *(PROJECT / "deploy/postgres").iterdir()]
    for path in [*scripts, PROJECT / "scripts/stack.sh"]:
        if path.is_file():
            assert path.stat().st_mode & 0o111, path
            assert path.read_text("utf-8").startswith("#!"), path


def test_shell_scripts_are_plain_sh(tmp_path: Path) -> None:
    for path in ("scripts/stack.sh", "deploy/bin/run_pipeline", "deploy/postgres/10_databases.sh"):
        found = subprocess.run(
            ["sh", "-n", PROJECT / path], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (found.returncode, found.stderr) == (0, "")
