"""`kedro model reproduce`: train a version again, from its rows and options, and compare."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion

from mlops_for_mle.contract.columns import encode_rows, frame_digest
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.registry.datasets import load_version
from mlops_for_mle.pipelines.training import nodes
from mlops_for_mle.pipelines.training.options import TrainingOptions
from mlops_for_mle.releases.predictor import Predictor


def train_again(client: MlflowClient, version: ModelVersion) -> tuple[bool, str]:
    """Train a version again, by the present code, from its recorded snapshot and options.

    Returns:
        Whether metrics and predictions are the same to the last bit, and what was found.

    Raises:
        UserError: Its rows were altered.
    """
    run, then = client.get_run(version.run_id), load_version(version)
    described, facts = then.manifest, then.manifest.snapshot
    with TemporaryDirectory() as folder:
        stored = f"{run.info.artifact_uri}/snapshot/snapshot.parquet"
        rows = pd.read_parquet(Path(download_artifacts(stored, dst_path=folder)))
    title = f"Version {version.version} of {version.name}"
    if frame_digest(rows) != facts.sha256:
        raise UserError(f"{title}: its snapshot was altered, the digest is not that recorded.")
    attributes: dict[Any, Any] = facts.model_dump()
    rows.attrs = attributes
    contract, training = described.contract, TrainingOptions.model_validate(described.training)
    examples, *_ = nodes.prepare_examples(rows, contract, training)
    trained = nodes.train_model(examples, training)
    metrics, matrix = nodes.evaluate_model(trained), encode_rows(rows, contract)
    deployed = Predictor(then.model, contract, described.threshold)
    before, now = (one.predict(matrix) for one in (deployed, trained.predictor))
    differing = before.values != now.values
    if before.probabilities is not None and now.probabilities is not None:
        differing |= (before.probabilities != now.probabilities).any(axis=1)
    other = int(differing.sum())
    changed = "; ".join(
        f"{name} {described.metrics.get(name)} then, {value} now"
        for name, value in metrics.items()
        if described.metrics.get(name) != value
    )
    commit = run.data.tags.get("mlflow.source.git.commit", "")
    is_identical = not changed and not other
    report = f"""\
{title}, run {version.run_id}
  rows         {facts.row_count} of {facts.source}, sha256 {facts.sha256[:12]}…
  code         trained by revision {commit or "unknown"}, again by the present code
  metrics      {changed or f"identical ({len(metrics)})"}
  predictions  {f"{other} of {len(rows)} differ" if other else f"identical ({len(rows)} rows)"}
{"reproduced: identical" if is_identical else "not reproduced"}"""
    return is_identical, report
