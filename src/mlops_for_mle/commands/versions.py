"""What `kedro model` does, on MLflow's registry, the release store and the audit trail."""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from mlops_for_mle import deployments
from mlops_for_mle.commands.project import connect_mlflow, read_configuration
from mlops_for_mle.config import release_store
from mlops_for_mle.contract import Contract
from mlops_for_mle.database import database_url, reachable, require_tables
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.metric_names import metric_text
from mlops_for_mle.records import Deployment
from mlops_for_mle.release import Manifest, ReleaseStore

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Registry:
    """A contract's versions, releases and deployments.

    Attributes:
        contract: Its name is the registered model's.
        metric: The metric that decides.
        url: The project's database.
        env: The folder of ``conf`` that the contract stands in; None is the default one.
    """

    contract: Contract
    metric: str
    url: str
    env: str | None = None

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client on the project's tracking server or store."""
        from mlflow import MlflowClient

        connect_mlflow()
        return MlflowClient()

    @property
    def store(self) -> ReleaseStore:
        """Where the releases are."""
        return ReleaseStore(release_store())

    def served(self) -> deployments.DeploymentRow | None:
        """The deployment that servers follow."""
        with reachable(self.url) as engine, engine.connect() as connection:
            return deployments.current(connection, self.contract.name)


def open_registry(path: Path, env: str | None) -> Registry:
    """Read the project and find its database.

    Raises:
        PrerequisiteError: The project's tables are not there yet.
    """
    project = read_configuration(path, env)["parameters"]
    url = database_url()
    try:
        require_tables(url)
    except PrerequisiteError:
        raise PrerequisiteError(
            "The project has no tables yet: run `kedro run` (or `kedro db upgrade`) first."
        ) from None
    return Registry(
        Contract.model_validate(project["contract"]), project["gates"]["metric"], url, env
    )


def version_table(registry: Registry) -> str:
    """Draw the versions as a table for a terminal."""
    from rich.console import Console
    from rich.table import Table

    from mlops_for_mle.datasets.model_registry import DECISION_TAG, champion_version, versions

    name = registry.contract.name
    known = versions(registry.client, name)
    if not known:
        raise PrerequisiteError(f"There is no version of {name} yet: run `kedro run` first.")
    champion = champion_version(registry.client, name)
    served = registry.served()
    table = Table(title=f"Versions of {name}", title_justify="left")
    for heading in ("version", registry.metric, "decision", "alias", "release", "run"):
        table.add_column(heading)
    releases = _releases_by_version(registry)
    for version in known:
        number = int(version.version)
        is_served = served is not None and served.model_version == number
        alias = "champion" if champion is not None and int(champion.version) == number else ""
        release = releases.get(number, "")
        table.add_row(
            str(number),
            _metric(version, registry.metric).rpartition(" ")[2],
            version.tags.get(DECISION_TAG, "undecided"),
            alias,
            f"{release} (served)" if is_served else release,
            version.run_id,
        )
    output = io.StringIO()
    Console(file=output, width=140).print(table)
    return output.getvalue().rstrip()


def project_summary(registry: Registry, candidate: int | None = None) -> str:
    """Say in a few lines where the project stands.

    Args:
        registry: The contract's.
        candidate: The version whose decision is told; None is the newest.
    """
    from mlops_for_mle.datasets.model_registry import (
        DECISION_TAG,
        REASONS_TAG,
        champion_version,
        versions,
    )

    contract, metric = registry.contract, registry.metric
    rows, rejected = _count_rows(registry)
    known = versions(registry.client, contract.name)
    champion = champion_version(registry.client, contract.name)
    served = registry.served()
    lines = [("rows", f"{rows} in {contract.table}, {rejected} rejected")]
    if known:
        number = str(candidate or known[0].version)
        told = registry.client.get_model_version(contract.name, number)
        decision = told.tags.get(DECISION_TAG, "undecided")
        lines.append(("candidate", f"version {told.version}, {_metric(told, metric)}"))
        lines.append(("decision", f"{decision}: {told.tags.get(REASONS_TAG, '')}"))
    lines.append(
        (
            "champion",
            "none yet"
            if champion is None
            else f"version {champion.version}, {_metric(champion, metric)}",
        )
    )
    if served is None:
        lines.append(("release", "none deployed yet"))
    else:
        since = served.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        lines.append(("release", f"{served.release}, deployed {since}"))
        command = f"kedro serve --env {registry.env}" if registry.env else "make serve"
        lines.append(("serve it", f"{command}, then http://127.0.0.1:8000"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in lines)


def download_version(registry: Registry, wanted: str, folder: Path) -> Path:
    """Download a version's files into a folder that is made for it.

    Raises:
        UserError: There is no such version, or the folder is not empty.
    """
    from mlflow.artifacts import download_artifacts

    from mlops_for_mle.datasets.model_registry import find_version

    version = find_version(registry.client, registry.contract.name, wanted)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: name another folder, or empty it.")
    folder.mkdir(parents=True, exist_ok=True)
    return Path(
        download_artifacts(
            f"models:/{registry.contract.name}/{version.version}", dst_path=str(folder)
        )
    )


def promote_version(registry: Registry, wanted: str, reason: str) -> str:
    """Release, deploy and make champion the version that a person chose."""
    from mlops_for_mle.datasets.model_registry import (
        CHAMPION,
        DECISION_TAG,
        REASONS_TAG,
        find_version,
        load_bundle,
    )
    from mlops_for_mle.datasets.releases import ReleaseDataset, record_deployment
    from mlops_for_mle.pipelines.deployment.nodes import build_release

    name = registry.contract.name
    version = find_version(registry.client, name, wanted)
    release = ReleaseDataset(registry.store.url)
    release.save(build_release(load_bundle(name, version)))
    manifest = release.load()
    if not isinstance(manifest, Manifest):
        raise TypeError("a version that exists always gives a release")
    number = str(version.version)
    registry.client.set_model_version_tag(name, number, DECISION_TAG, "promoted by hand")
    registry.client.set_model_version_tag(name, number, REASONS_TAG, reason)
    registry.client.set_registered_model_alias(name, CHAMPION, number)
    appended = record_deployment(registry.url, _deployment(manifest, "deploy", reason))
    return f"Version {number} is champion; release {manifest.release} is deployed" + (
        "." if appended else " already."
    )


def roll_back(registry: Registry, wanted: str | None, reason: str) -> str:
    """Serve an earlier release again and give its version the alias back.

    Raises:
        UserError: There is no such release, or none before the one that is served.
    """
    name = registry.contract.name
    with reachable(registry.url) as engine, engine.connect() as connection:
        rows = deployments.history(connection, name)
    if not rows:
        raise PrerequisiteError(f"Nothing of {name} is deployed yet: run `kedro run` first.")
    served = rows[0].release
    earlier = list(dict.fromkeys(row.release for row in rows if row.release != served))
    if not earlier:
        raise UserError(f"{served} is the only release of {name}; there is none to go back to.")
    chosen = wanted or earlier[0]
    if chosen not in earlier:
        raise UserError(
            f"Cannot roll back to {chosen!r}: expected one of {', '.join(earlier)} "
            f"({served} is served now)."
        )
    manifest = registry.store.fetch(name, chosen).manifest
    from mlops_for_mle.datasets.releases import record_deployment

    record_deployment(registry.url, _deployment(manifest, "rollback", reason))
    return f"Rolled back from {served} to {chosen}; {_give_alias_back(registry, manifest)}"


def _give_alias_back(registry: Registry, manifest: Manifest) -> str:
    """Move the alias to the served version; the rollback stands even when MLflow is away."""
    from mlflow.exceptions import MlflowException

    from mlops_for_mle.datasets.model_registry import CHAMPION

    version = str(manifest.model.version)
    try:
        registry.client.set_registered_model_alias(manifest.model.name, CHAMPION, version)
    except (MlflowException, UserError) as error:
        return (
            f"but MLflow did not move the alias champion to version {version} ({error}): "
            f"run `kedro model promote {version}` when it is back."
        )
    return f"version {version} is champion again."


def _deployment(manifest: Manifest, event: Any, reason: str) -> Deployment:
    return Deployment(
        contract=manifest.contract.name,
        event=event,
        release=manifest.release,
        model_version=manifest.model.version,
        run_id=manifest.model.run_id,
        reason=reason,
    )


def _releases_by_version(registry: Registry) -> dict[int, str]:
    with reachable(registry.url) as engine, engine.connect() as connection:
        rows = deployments.history(connection, registry.contract.name)
    return {row.model_version: row.release for row in reversed(rows)}


def _count_rows(registry: Registry) -> tuple[int, int]:
    with reachable(registry.url) as engine, engine.connect() as connection:
        table = engine.dialect.identifier_preparer.quote(registry.contract.table)
        rows = connection.scalar(text(f"SELECT count(*) FROM {table}"))  # noqa: S608  (quoted)
        rejected = connection.scalar(
            text("SELECT count(*) FROM rejected_rows WHERE table_name = :name"),
            {"name": registry.contract.table},
        )
    return int(rows or 0), int(rejected or 0)


def _metric(version: Any, metric: str) -> str:
    value = version.tags.get(f"mlops.{metric}")
    return f"validation {metric} {metric_text(float(value))}" if value else f"{metric} not measured"
