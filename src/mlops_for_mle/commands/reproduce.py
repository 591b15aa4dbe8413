"""What `kedro model reproduce` does: train a version again and compare."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.commands.versions import Registry
from mlops_for_mle.datasets.provenance import git
from mlops_for_mle.errors import UserError
from mlops_for_mle.frames import digest
from mlops_for_mle.predictor import Predictions
from mlops_for_mle.records import ModelVersion
from mlops_for_mle.reproduction import Outcome, answers_for, read_outcome, write_task

_COMMIT_TAG = "mlflow.source.git.commit"
_IS_COMMITTED_TAG = "mlops.code_is_committed"
_LINES_OF_AN_ERROR = 5


@dataclass(frozen=True)
class Reproduction:
    """How a version and its second training compare.

    Attributes:
        is_identical: Whether metrics and predictions are the same to the last bit.
        report: What was done and found, for people.
    """

    is_identical: bool
    report: str


def reproduce(registry: Registry, wanted: str) -> Reproduction:
    """Train a version again from its recorded snapshot, options and code revision.

    Args:
        registry: The contract's versions.
        wanted: A number, an alias or a run id.

    Raises:
        UserError: There is no such version, what it was made of is not there any more, or its
            training fails now.
    """
    from mlops_for_mle.datasets.model_registry import find_version, load_version

    found = find_version(registry.client, registry.contract.name, wanted)
    version = load_version(registry.contract.name, found)
    if not version.passport.training:
        raise UserError(
            f"Version {version.version} of {version.name} was trained before its options were "
            "recorded with it, so it cannot be trained again."
        )
    rows = _recorded_rows(version)
    tags = registry.client.get_run(version.run_id).data.tags
    with code_of(tags) as (source, code):
        outcome = _train_again(version, rows, source)
    facts = version.passport.snapshot
    lines = [
        f"Version {version.version} of {version.name}, run {version.run_id}",
        f"  rows         {facts.row_count} of {facts.source}, sha256 {facts.sha256[:12]}…",
        f"  code         {code}",
        *_differences(registry.client, version),
    ]
    verdicts = _compare(version, rows, outcome)
    lines += [f"  {name:<12} {verdict}" for name, _, verdict in verdicts]
    is_identical = all(same for name, same, _ in verdicts if name != "ONNX graph")
    lines.append(f"  {'reproduced: identical' if is_identical else 'not reproduced'}")
    return Reproduction(is_identical, "\n".join(lines))


def _recorded_rows(version: ModelVersion) -> pd.DataFrame:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    from mlops_for_mle.datasets.model_files import temporary_folder

    where = f"The snapshot of version {version.version} of {version.name}"
    with temporary_folder() as folder:
        try:
            path = download_artifacts(
                run_id=version.run_id, artifact_path="snapshot/snapshot.parquet", dst_path=folder
            )
        except (MlflowException, OSError) as error:
            raise UserError(f"{where} is not in run {version.run_id} any more: {error}") from error
        rows = pd.read_parquet(path)
    if digest(rows) != version.passport.snapshot.sha256:
        raise UserError(f"{where} was altered: its digest is not the recorded one.")
    return rows


@contextmanager
def code_of(tags: dict[str, str]) -> Iterator[tuple[Path | None, str]]:
    """Check out the code that trained a run, while that is possible.

    Args:
        tags: The run's.

    Yields:
        The source folder to train with, None for the present one, and what it is in words.
    """
    from mlops_for_mle.datasets.model_files import temporary_folder

    commit = tags.get(_COMMIT_TAG)
    if commit is None:
        yield None, "as it is now; which revision trained it was not recorded"
        return
    present = git("rev-parse", "HEAD")
    short = commit[:12]
    if tags.get(_IS_COMMITTED_TAG) == "no":
        yield None, f"as it is now; it was trained with changes to {short} that were not committed"
        return
    is_changed = bool(git("status", "--porcelain", "--untracked-files=no", "--", "src"))
    if present == commit and not is_changed:
        yield None, f"revision {short}, which is the present one"
        return
    if present is None or git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        yield None, f"as it is now; revision {short} is not in this checkout"
        return
    with temporary_folder() as folder:
        tree = Path(folder) / "revision"
        if git("worktree", "add", "--detach", str(tree), commit, seconds=60) is None:
            raise UserError(f"Git cannot check out revision {short} beside the project.")
        try:
            if not (tree / "src" / "mlops_for_mle" / "reproduction.py").exists():
                yield None, f"as it is now; revision {short} could not yet be trained again"
            else:
                yield tree / "src", f"revision {short}, checked out for this"
        finally:
            git("worktree", "remove", "--force", str(tree))


def _train_again(version: ModelVersion, rows: pd.DataFrame, source: Path | None) -> Outcome:
    from mlops_for_mle.datasets.model_files import temporary_folder

    environment = dict(os.environ)
    if source is not None:
        environment["PYTHONPATH"] = str(source)
    with temporary_folder() as folder:
        write_task(Path(folder), rows, version.passport)
        finished = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "mlops_for_mle.reproduction", folder],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            said = finished.stderr.strip().splitlines()[-_LINES_OF_AN_ERROR:]
            raise UserError(
                f"Version {version.version} of {version.name} cannot be trained again: "
                f"{' '.join(said) or f'exit code {finished.returncode}'}"
            )
        return read_outcome(Path(folder))


def _compare(
    version: ModelVersion, rows: pd.DataFrame, outcome: Outcome
) -> list[tuple[str, bool, str]]:
    recorded = version.passport.metrics
    names = sorted(recorded.keys() | outcome.metrics.keys())
    other = [name for name in names if recorded.get(name) != outcome.metrics.get(name)]
    shown = "; ".join(f"{n} {recorded.get(n)} then, {outcome.metrics.get(n)} now" for n in other)
    answers = answers_for(version.model, rows, version.passport.contract)
    is_same_graph = outcome.onnx_sha256 == version.passport.onnx_sha256
    different = _different_answers(answers, outcome.answers)
    return [
        ("metrics", not other, shown or f"identical ({len(names)})"),
        (
            "predictions",
            different == 0,
            f"{different} of {len(rows)} differ" if different else f"identical ({len(rows)} rows)",
        ),
        ("ONNX graph", is_same_graph, "identical" if is_same_graph else "written differently"),
    ]


def _different_answers(then: Predictions, now: Predictions) -> int:
    """In how many rows the answers differ in any bit."""
    if (then.probabilities is None) != (now.probabilities is None):
        return len(then.values)
    differs = np.asarray(then.values != now.values)
    if then.probabilities is not None and now.probabilities is not None:
        differs |= (then.probabilities != now.probabilities).any(axis=1)
    return int(differs.sum())


def _differences(client: Any, version: ModelVersion) -> list[str]:
    """Packages of other versions than those that trained the model, one line if any."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    from mlflow.artifacts import load_dict
    from mlflow.exceptions import MlflowException

    run = client.get_run(version.run_id)
    try:
        recorded = load_dict(f"{run.info.artifact_uri}/environment.json")["packages"]
    except (MlflowException, OSError, KeyError):
        return ["  packages     not recorded"]
    changed = []
    for name in ("numpy", "pandas", "scikit-learn", "scipy", "skl2onnx"):
        try:
            now = installed(name)
        except PackageNotFoundError:
            now = "none"
        if recorded.get(name, "none") != now:
            changed.append(f"{name} {recorded.get(name, 'none')} then, {now} now")
    return [f"  packages     {'; '.join(changed) or 'as then'}"]
