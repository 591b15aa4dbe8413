"""`kedro db prune`: deletes what is old and needed by nothing that goes on."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from kedro.framework.startup import ProjectMetadata
from sqlalchemy import Connection, Engine, text

from mlops_for_mle.commands.options import Duration, env_option
from mlops_for_mle.commands.project import read_configuration
from mlops_for_mle.config import release_store
from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.database.schema import require_tables
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, RetrainingOptions
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.manifest import Deployment
from mlops_for_mle.releases.store import ReleaseStore

_ROWS_A_TRANSACTION = 10_000
# How long the API promises to know the key of a request.
_KEYS_ARE_KEPT = timedelta(days=7)

_OPEN_DECISION = """
SELECT coalesce(evidence_from, '-infinity')::text FROM (
    SELECT * FROM retraining_decisions WHERE contract = :contract ORDER BY id DESC LIMIT 1
) AS newest WHERE decision <> 'none' AND acted_at IS NULL
"""
_LABELLED = """EXISTS (
    SELECT FROM feedback
    WHERE feedback.prediction_id = predictions.prediction_id AND superseded_at IS NULL
)"""
_NTH_NEWEST = """
SELECT created_at::text FROM predictions
WHERE contract = :contract AND release = :release AND created_at <= :until AND {condition}
ORDER BY created_at DESC OFFSET :rows - 1 LIMIT 1
"""
_OLD = "contract = :contract AND created_at < least(:before, CAST(:evidence AS timestamptz))"
_NEEDED = """
AND NOT (release = :release_{0} AND (
    created_at >= CAST(:all_{0} AS timestamptz)
    OR created_at >= CAST(:labelled_{0} AS timestamptz) AND {1}
))"""
_DELETE_PREDICTIONS = """
WITH deleted AS (
    DELETE FROM predictions WHERE prediction_id IN (
        SELECT prediction_id FROM predictions WHERE {condition} ORDER BY created_at LIMIT :most
    ) RETURNING prediction_id
), labels AS (
    DELETE FROM feedback USING deleted WHERE feedback.prediction_id = deleted.prediction_id
    RETURNING feedback.prediction_id
)
SELECT (SELECT count(*) FROM deleted), (SELECT count(*) FROM labels)
"""
_COUNT_PREDICTIONS = """
SELECT count(*), coalesce(sum((
    SELECT count(*) FROM feedback WHERE feedback.prediction_id = predictions.prediction_id
)), 0) FROM predictions WHERE {condition}
"""
_DELETE = """
WITH deleted AS (
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {table} WHERE {condition} LIMIT :most
    )) RETURNING 1
)
SELECT count(*) FROM deleted
"""
_COUNT = "SELECT count(*) FROM {table} WHERE {condition}"
_OTHER_TABLES = {
    "rejected_rows": "table_name = :table AND created_at < :before",
    "scoring_rejects": "contract = :contract AND created_at < :before",
    "idempotency_keys": "table_name = :table AND created_at < least(:before, :promised)",
}


@click.command()
@env_option
@click.option("--older-than", required=True, type=Duration(timedelta(days=1)), help="Such as 90d.")
@click.option("--yes", is_flag=True, help="Delete; without, it is only said what would be.")
@click.pass_obj
def prune(metadata: ProjectMetadata, env: str | None, older_than: timedelta, yes: bool) -> None:
    """Delete old predictions with their labels, rejects, and releases that nothing serves.

    Kept whatever their age: what monitoring and retraining look at of the release in service and
    of the one before it, what an open decision on retraining rests on, and those two releases.
    """
    parameters = read_configuration(metadata.project_path, env)["parameters"]
    contract = Contract.model_validate(parameters["contract"])
    url, now = database_url(), datetime.now(UTC)
    require_tables(url)
    engine, before = engine_for(url), now - older_than
    bound = {
        "contract": contract.name,
        "table": contract.table,
        "before": before,
        "promised": now - _KEYS_ARE_KEPT,
        "evidence": "infinity",
    }
    with engine.connect() as connection:
        served = deployments.history(connection, contract.name)
        in_service = served[0].release if served else None
        needed = [one for one in (in_service, deployments.release_before(served)) if one]
        condition = _OLD
        for evidence in connection.scalars(text(_OPEN_DECISION), bound):
            bound["evidence"] = evidence
        for number, release in enumerate(needed):
            everything, labelled = _windows(connection, contract.name, release, parameters)
            bound[f"release_{number}"] = release
            bound |= {f"all_{number}": everything, f"labelled_{number}": labelled}
            condition += _NEEDED.format(number, _LABELLED)
    store = ReleaseStore(release_store())
    kept = {*needed, parameters["scoring"]["release"], *_served_since(before, served)}
    names = [name for name in store.names(contract.name) if name not in kept]
    releases = [name for name in names if _is_older(store, contract.name, name, before)]
    counts = dict.fromkeys(("predictions", "feedback", *_OTHER_TABLES), 0)
    statement = _DELETE_PREDICTIONS if yes else _COUNT_PREDICTIONS
    for predictions, labels in _batches(engine, statement.format(condition=condition), bound, yes):
        counts["predictions"] += predictions
        counts["feedback"] += labels
    for table, condition in _OTHER_TABLES.items():
        statement = (_DELETE if yes else _COUNT).format(table=table, condition=condition)
        counts[table] = sum(rows for (rows,) in _batches(engine, statement, bound, yes))
    if yes:
        for name in releases:
            store.delete(contract.name, name)
    click.echo(f"{contract.name}, older than {before:%Y-%m-%d %H:%M} UTC:")
    for table, rows in counts.items():
        click.echo(f"  {table:<17} {rows} rows")
    click.echo(f"  {'releases':<17} {', '.join(releases) or 'none'}")
    click.echo("Deleted." if yes else "Nothing was deleted: add --yes.")


def _batches(
    engine: Engine, statement: str, bound: dict[str, Any], is_repeated: bool
) -> Iterator[tuple[int, ...]]:
    """Run a statement, each time in a transaction of its own, until it finds too few rows."""
    rows = _ROWS_A_TRANSACTION
    while rows == _ROWS_A_TRANSACTION:
        with engine.begin() as connection:
            counts = connection.execute(text(statement), {**bound, "most": rows}).one()
        yield tuple(counts)
        rows = counts[0] if is_repeated else 0


def _windows(
    connection: Connection, contract: str, release: str, parameters: dict[str, Any]
) -> tuple[str, str]:
    """Since when predictions of a release are needed, and since when labelled ones are."""
    window = MonitoringOptions.model_validate(parameters["monitoring"]).window
    windows = RetrainingOptions.model_validate(parameters["retraining"]).windows
    until = window.until or datetime.now(UTC)
    if window.rows is None:
        since = "-infinity"
        if window.hours is not None:
            since = (until - timedelta(hours=window.hours * windows)).isoformat()
        return since, since
    bound = {"contract": contract, "release": release, "until": until}
    bound["rows"] = window.rows * windows
    found = [
        connection.scalar(text(_NTH_NEWEST.format(condition=condition)), bound) or "-infinity"
        for condition in ("true", _LABELLED)
    ]
    return found[0], found[1]


def _is_older(store: ReleaseStore, contract: str, name: str, moment: datetime) -> bool:
    """Whether a release was made before; nobody knows it of a damaged one."""
    try:
        return store.manifest(contract, name).created_at < moment
    except ReleaseError:
        return False


def _served_since(moment: datetime, served: list[Deployment]) -> Iterator[str]:
    """The releases that were in service then or later."""
    for one in served:
        yield one.release
        if one.created_at < moment:
            return
