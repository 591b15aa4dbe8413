"""Where a project stands, in a few lines: what every `kedro run` ends with."""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from sqlalchemy import func, select, table

from mlops_for_mle.config import public_address
from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.database.tables import rejected_rows
from mlops_for_mle.pipelines.registry import datasets as registry
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.manifest import ModelDescription
from mlops_for_mle.releases.metrics import metric_text


def project_summary(
    contract: Contract, metric: str, env: str | None, candidate: str | None = None
) -> str:
    """Say in a few lines where the project stands, of a run's candidate or the newest version."""
    client = MlflowClient()
    with engine_for(database_url()).connect() as connection:
        served = deployments.current(connection, contract.name)
        count = select(func.count())
        rows = connection.scalar(count.select_from(table(contract.table)))
        rejected = connection.scalar(count.where(rejected_rows.c.table_name == contract.table))
    lines = {"rows": f"{rows} in {contract.table}, {rejected} rejected"}
    known = registry.versions(client, contract.name)[:1]
    if candidate:
        known = [registry.find_version(client, contract.name, candidate)]
    for told in known:
        lines["candidate"] = _measured(client, told, metric)
        lines |= _training_lines(registry.load_version(told).manifest)
        lines["decision"] = registry.decision_on(told)
    champion = registry.champion_version(client, contract.name)
    lines["champion"] = _measured(client, champion, metric) if champion else "none yet"
    lines["release"] = "none deployed yet"
    if served is not None:
        since = served.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        lines["release"] = f"{served.release}, deployed {since}"
        if public_address("API"):
            lines["served at"] = public_address("API")
        else:
            command = f"kedro serve --env {env}" if env else "make serve"
            lines["serve it"] = f"{command}, then http://127.0.0.1:8000"
    width = max(map(len, lines))
    return "\n".join(f"  {heading:<{width}}  {value}" for heading, value in lines.items())


def measured(client: MlflowClient, version: ModelVersion, metric: str) -> str:
    """A metric of a version on its validation rows."""
    value = client.get_run(version.run_id).data.metrics.get(f"validation_{metric}")
    return "not measured" if value is None else metric_text(value)


def _measured(client: MlflowClient, version: ModelVersion, metric: str) -> str:
    return f"version {version.version}, validation {metric} {measured(client, version, metric)}"


def _training_lines(described: ModelDescription) -> dict[str, str]:
    """What was chosen in a training, and what a person should look at."""
    what = "log loss" if described.contract.target.classes else "rmse"
    tried = ", ".join(
        f"{one.estimator} {metric_text(one.error)} ± {metric_text(one.standard_error)}"
        for one in described.candidates
    )
    chosen = {"chosen": f"{described.estimator}, by {what}: {tried}"} if tried else {}
    return chosen | ({"look at": "; ".join(described.remarks)} if described.remarks else {})
