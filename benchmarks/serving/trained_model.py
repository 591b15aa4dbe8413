"""The model that all serve: trained, registered and deployed by the project's own pipelines."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.bodies import FEATURES, Row, make_rows
from benchmarks.serving.environments import PROJECT

from mlops_for_mle.database import embedded

# Enough for the largest body.
KNOWN_ROWS = 10_000

# What would move the benchmark's data somewhere else, if a person's shell had it.
_DECIDING = ("DATABASE_URL", "MLFLOW_TRACKING_URI", "KEDRO_ENV", "PYTHONDONTWRITEBYTECODE")

_EXPORTED = "exported.json"

# Where one of these has changed, the model is trained anew.
_DECISIVE = (
    "conf",
    "src/mlops_for_mle/contract.py",
    "src/mlops_for_mle/release.py",
    "src/mlops_for_mle/datasets",
    "src/mlops_for_mle/migrations",
    "src/mlops_for_mle/pipelines",
)


@dataclass(frozen=True)
class TrainedModel:
    """One model, in the forms that the servers load.

    Attributes:
        project: The folder of a project of its own, with a database and a deployed release.
        mlflow_folder: The registered version, as MLflow stores it.
        joblib_file: The same scikit-learn pipeline.
        onnx_file: What ours serves.
        classes: What scikit-learn answers for the first rows of ``make_rows``.
        versions: Of the packages that trained it.
    """

    project: Path
    mlflow_folder: Path
    joblib_file: Path
    onnx_file: Path
    classes: tuple[int, ...]
    versions: dict[str, str]

    def check(self, rows: list[Row], answer: list[int]) -> str | None:
        """Compare an answer with scikit-learn's.

        Returns:
            What is wrong with it, or None.
        """
        expected = list(self.classes[: len(rows)])
        if len(answer) != len(expected):
            return f"{len(answer)} answers to {len(expected)} rows"
        wrong = sum(one != other for one, other in zip(answer, expected, strict=True))
        return f"{wrong} of {len(rows)} classes are wrong" if wrong else None


def own_environment(project: Path) -> dict[str, str]:
    """The variables under which commands of the project work in a folder of their own."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in _DECIDING and not name.startswith("MLOPS_")
    }
    binaries = str(Path(sys.executable).parent)
    return {
        **inherited,
        "PATH": os.pathsep.join([binaries, inherited.get("PATH", os.defpath)]),
        "MLOPS_PROJECT_PATH": str(project),
        "DO_NOT_TRACK": "true",
    }


def prepare(cache: Path) -> TrainedModel:
    """Train and deploy, unless that was done before, and export what the peers load."""
    project = cache / "project"
    exported = project / _EXPORTED
    facts = json.loads(exported.read_text()) if exported.exists() else {}
    if facts.get("sources") != _digest_of_sources():
        print("training and deploying the model …", flush=True)
        _make_project(project)
        _run(project, "kedro", "run")
        _run(project, "benchmarks.serving.trained_model", str(project))
        facts = json.loads(exported.read_text())
    return TrainedModel(
        project,
        project / "model",
        project / "model.joblib",
        project / "model" / "extra_files" / "model.onnx",
        tuple(facts["classes"]),
        facts["versions"],
    )


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for name in _DECISIVE:
        start = PROJECT / name
        for file in sorted([start] if start.is_file() else start.rglob("*.*")):
            if file.suffix in {".py", ".yml"} and "local" not in file.parts:
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _make_project(folder: Path) -> None:
    """The shipped configuration in a folder of its own; the code is the installed package."""
    if (home := folder / "data" / "postgres").exists():
        embedded.destroy(home)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf" / "local").mkdir()
    # Kedro insists on the folder.
    (folder / "src").mkdir()
    shutil.copy(PROJECT / "pyproject.toml", folder)


def _run(project: Path, module: str, *arguments: str) -> None:
    environment = own_environment(project)
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(PROJECT), *filter(None, [environment.get("PYTHONPATH")])]
    )
    finished = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise SystemExit(f"{module} failed:\n{finished.stdout}\n{finished.stderr}")


def _export(project: Path) -> None:
    """Take the champion out of the registry; runs within the project's environment."""
    from importlib.metadata import version

    import joblib
    import mlflow
    import pandas as pd

    from mlops_for_mle import database, mlflow_store

    mlflow.set_tracking_uri(mlflow_store.mlflow_store_url(database.database_url()))
    mlflow.artifacts.download_artifacts(
        artifact_uri="models:/iris@champion", dst_path=str(project / "model")
    )
    model = mlflow.sklearn.load_model(str(project / "model"))
    joblib.dump(model, project / "model.joblib")
    answers = model.predict(pd.DataFrame(make_rows(KNOWN_ROWS), columns=list(FEATURES)))
    names = ("mlflow", "numpy", "onnxruntime", "pandas", "scikit-learn", "uvicorn")
    facts = {
        "classes": [int(one) for one in answers],
        "versions": {name: version(name) for name in names},
        "sources": _digest_of_sources(),
    }
    (project / _EXPORTED).write_text(json.dumps(facts))


if __name__ == "__main__":
    _export(Path(sys.argv[1]))
