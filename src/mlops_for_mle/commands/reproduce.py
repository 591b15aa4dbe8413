"""`kedro model reproduce`: train a version again, with its rows, options and code, and compare.

The training is a process of its own, ``python -m mlops_for_mle.commands.reproduce FOLDER``, so
that it can run the code of another revision.
"""

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version as installed
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, load_dict
from mlflow.entities.model_registry import ModelVersion

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_rows, frame_digest
from mlops_for_mle.errors import UserError
from mlops_for_mle.paths import project_path
from mlops_for_mle.pipelines.registry.datasets import load_version
from mlops_for_mle.releases.manifest import ModelDescription
from mlops_for_mle.releases.predictor import Predictor

_ROWS, _THEN, _NOW, _GRAPH = "snapshot.parquet", "then.json", "now.json", "now.onnx"
_PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "skl2onnx")


def train_again(client: MlflowClient, version: ModelVersion) -> tuple[bool, str]:
    """Train a version again from its recorded snapshot, options and code revision.

    Returns:
        Whether metrics and predictions are the same to the last bit, and what was done and found.

    Raises:
        UserError: Its rows were altered, or its training fails now.
    """
    run = client.get_run(version.run_id)
    then = load_version(version)
    described, facts = then.manifest, then.manifest.snapshot
    title = f"Version {version.version} of {version.name}"
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows_of_run = f"{run.info.artifact_uri}/snapshot/{_ROWS}"
        Path(download_artifacts(rows_of_run, dst_path=name)).rename(folder / _ROWS)
        rows = pd.read_parquet(folder / _ROWS)
        if frame_digest(rows) != facts.sha256:
            raise UserError(f"{title}: its snapshot was altered, the digest is not that recorded.")
        kept = set(ModelDescription.model_fields)
        (folder / _THEN).write_text(described.model_dump_json(include=kept), "utf-8")
        source, code = code_of(run.data.tags, folder)
        _run(folder, source, title)
        now = ModelDescription.model_validate_json((folder / _NOW).read_bytes())
        graph = (folder / _GRAPH).read_bytes()
    metrics = _differences(described.metrics, now.metrics)
    answers = [_answers(one, described.contract, rows) for one in (then.model, graph)]
    other = int((answers[0] != answers[1]).any(axis=1).sum())
    recorded = load_dict(f"{run.info.artifact_uri}/environment.json")["packages"]
    packages = _differences(
        {one: recorded.get(one) for one in _PACKAGES}, {one: installed(one) for one in _PACKAGES}
    )
    is_same_graph = described.model_sha256 == now.model_sha256
    is_identical = not metrics and not other
    report = f"""\
{title}, run {version.run_id}
  rows         {facts.row_count} of {facts.source}, sha256 {facts.sha256[:12]}…
  code         {code}
  packages     {packages or "as then"}
  metrics      {metrics or f"identical ({len(now.metrics)})"}
  predictions  {f"{other} of {len(rows)} differ" if other else f"identical ({len(rows)} rows)"}
  ONNX graph   {"identical" if is_same_graph else "written differently"}
  {"reproduced: identical" if is_identical else "not reproduced"}"""
    return is_identical, report


def code_of(tags: dict[str, str], folder: Path) -> tuple[Path | None, str]:
    """Put the code that trained a run into a folder, where the checkout has it.

    Returns:
        The source folder to train with, None for the present one, and what it is in words.
    """
    commit = tags.get("mlflow.source.git.commit", "")
    if not commit:
        return None, "as it is now; which revision trained it was not recorded"
    if tags.get("mlops.code_is_committed") == "no":
        return None, f"as it is now; it was trained with changes to {commit[:12]}, not committed"
    archive = ["git", "-C", str(project_path()), "archive", commit, "src"]
    try:
        content = subprocess.run(archive, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None, f"as it is now; revision {commit[:12]} is not in this checkout"
    with tarfile.open(fileobj=BytesIO(content)) as packed:
        packed.extractall(folder, filter="data")
    return folder / "src", f"revision {commit[:12]}"


def _run(folder: Path, source: Path | None, title: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mlops_for_mle.commands.reproduce", str(folder)],
        env=os.environ | ({"PYTHONPATH": str(source)} if source else {}),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode or not (folder / _NOW).exists():
        (*_, said) = finished.stderr.strip().splitlines() or [f"exit {finished.returncode}"]
        raise UserError(f"{title} cannot be trained again: {said}")


def _differences(then: dict[str, Any], now: dict[str, Any]) -> str:
    return "; ".join(
        f"{one} {then.get(one)} then, {now.get(one)} now"
        for one in sorted(then.keys() | now.keys())
        if then.get(one) != now.get(one)
    )


def _answers(graph: bytes, contract: Contract, rows: pd.DataFrame) -> np.ndarray:
    """One row for each row, with the prediction and the probabilities."""
    answers = Predictor(graph, contract).predict(encode_rows(rows, contract))
    return np.column_stack([one for one in answers if one is not None])


def _train(folder: Path) -> None:
    """Train as the pipeline does, from a snapshot to a candidate that is not logged."""
    from mlops_for_mle.pipelines.training import nodes
    from mlops_for_mle.pipelines.training.options import TrainingOptions

    then = ModelDescription.model_validate_json((folder / _THEN).read_bytes())
    training = TrainingOptions.model_validate(then.training)
    rows = pd.read_parquet(folder / _ROWS)
    facts: dict[Any, Any] = then.snapshot.model_dump()
    rows.attrs = facts
    examples, _ = nodes.split_snapshot(nodes.Examples.of(rows, then.contract), training)
    trained = nodes.export_model(nodes.train_model(examples, training))
    candidate = nodes.assemble_candidate(trained, nodes.evaluate_model(trained))
    (folder / _GRAPH).write_bytes(trained.served.graph)
    (folder / _NOW).write_text(candidate.description.model_dump_json(), "utf-8")


if __name__ == "__main__":
    _train(Path(sys.argv[1]))
