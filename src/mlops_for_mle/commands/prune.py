"""`kedro db prune`: deletes what is old and needed by nothing that goes on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click
from kedro.framework.startup import ProjectMetadata
from sqlalchemy import Engine, text

from mlops_for_mle.commands.options import Duration, env_option
from mlops_for_mle.commands.project import read_configuration
from mlops_for_mle.config import release_store
from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.database.schema import require_tables
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, RetrainingOptions
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.store import ReleaseStore

_ROWS_A_TRANSACTION = 10_000
# How long the API promises to know the key of a request.
_KEYS_ARE_KEPT = timedelta(days=7)

_IS_LABELLED = """EXISTS (
    SELECT FROM feedback
    WHERE feedback.prediction_id = predictions.prediction_id AND superseded_at IS NULL
)"""
# Since when all predictions of a release are needed, and since when labelled ones are.
_NEEDED = f"""
SELECT release, min(created_at) FILTER (WHERE place <= :rows),
    min(created_at) FILTER (WHERE is_labelled AND place_among_equals <= :rows)
FROM (
    SELECT release, created_at, is_labelled,
        row_number() OVER (PARTITION BY release ORDER BY created_at DESC) AS place,
        row_number() OVER (PARTITION BY release, is_labelled ORDER BY created_at DESC)
            AS place_among_equals
    FROM (
        SELECT release, created_at, {_IS_LABELLED} AS is_labelled FROM predictions
        WHERE contract = :contract AND release = ANY(:releases) AND created_at <= :until
            AND created_at >= CAST(:since AS timestamptz)
    ) AS looked_at
) AS numbered GROUP BY release
"""  # noqa: S608
_OLD_PREDICTIONS = f"""
contract = :contract AND created_at < least(:before, (
    SELECT CASE WHEN decision <> 'none' AND acted_at IS NULL
        THEN coalesce(evidence_from, '-infinity') END
    FROM retraining_decisions WHERE contract = :contract ORDER BY id DESC LIMIT 1
)) AND NOT EXISTS (
    SELECT FROM unnest(
        CAST(:releases AS text[]), CAST(:all_since AS timestamptz[]),
        CAST(:labelled_since AS timestamptz[])
    ) AS needed (release, all_since, labelled_since)
    WHERE needed.release = predictions.release AND (
        created_at >= all_since OR created_at >= labelled_since AND {_IS_LABELLED}
    )
)"""  # noqa: S608
_OF_OLD_PREDICTIONS = (
    f"prediction_id IN (SELECT prediction_id FROM predictions WHERE {_OLD_PREDICTIONS})"  # noqa: S608
)
# Tables, their keys, and which rows go; labels first, since they are found by their predictions.
_TABLES = (
    ("feedback", "prediction_id", _OF_OLD_PREDICTIONS),
    ("predictions", "prediction_id", _OLD_PREDICTIONS),
    ("rejected_rows", "id", "table_name = :table AND created_at < :before"),
    (
        "scoring_rejects",
        "contract, source, source_id",
        "contract = :contract AND created_at < :before",
    ),
    (
        "idempotency_keys",
        "table_name, key",
        "table_name = :table AND created_at < least(:before, :promised)",
    ),
)


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
    with engine.connect() as connection:
        served = deployments.history(connection, contract.name)
    in_service = served[0].release if served else None
    needed = [one for one in (in_service, deployments.release_before(served)) if one]
    bound = {
        "contract": contract.name,
        "table": contract.table,
        "before": before,
        "promised": now - _KEYS_ARE_KEPT,
        **_windows(engine, contract.name, needed, parameters),
    }
    store = ReleaseStore(release_store())
    was_served = len([one for one in served if one.created_at >= before]) + 1
    kept = {
        *needed,
        parameters["scoring"]["release"],
        *(one.release for one in served[:was_served]),
    }
    names = [name for name in store.names(contract.name) if name not in kept]
    releases = [name for name in names if _is_older(store, contract.name, name, before)]
    click.echo(f"{contract.name}, older than {before:%Y-%m-%d %H:%M} UTC:")
    for table, key, condition in _TABLES:
        rows = _prune(engine, table, key, condition, bound, yes)
        click.echo(f"  {table:<17} {rows} rows")
    if yes:
        for name in releases:
            store.delete(contract.name, name)
    click.echo(f"  {'releases':<17} {', '.join(releases) or 'none'}")
    click.echo("Deleted." if yes else "Nothing was deleted: add --yes.")


def _windows(
    engine: Engine, contract: str, releases: list[str], parameters: dict[str, Any]
) -> dict[str, Any]:
    """Since when predictions of some releases are needed, as the statements are told it."""
    window = MonitoringOptions.model_validate(parameters["monitoring"]).window
    windows = RetrainingOptions.model_validate(parameters["retraining"]).windows
    until = window.until or datetime.now(UTC)
    bound = {"contract": contract, "releases": releases, "until": until, "since": "-infinity"}
    bound["rows"] = 2**62 if window.rows is None else window.rows * windows
    if window.rows is None and window.hours is not None:
        bound["since"] = (until - timedelta(hours=window.hours * windows)).isoformat()
    with engine.connect() as connection:
        found = [list(row) for row in connection.execute(text(_NEEDED), bound)]
    columns = zip(*found, strict=True) if found else ((), (), ())
    names = ("releases", "all_since", "labelled_since")
    return dict(zip(names, map(list, columns), strict=True))


def _prune(
    engine: Engine, table: str, key: str, condition: str, bound: dict[str, Any], is_wanted: bool
) -> int:
    """Delete rows, some in each transaction, or count them; gives how many there were."""
    if not is_wanted:
        with engine.connect() as connection:
            counted = text(f"SELECT count(*) FROM {table} WHERE {condition}")  # noqa: S608
            return int(connection.execute(counted, bound).scalar_one())
    some = f"SELECT {key} FROM {table} WHERE {condition} LIMIT {_ROWS_A_TRANSACTION}"  # noqa: S608
    statement = text(f"DELETE FROM {table} WHERE ({key}) IN ({some})")  # noqa: S608
    deleted, rows = 0, 1
    while rows:
        with engine.begin() as connection:
            rows = connection.execute(statement, bound).rowcount
        deleted += rows
    return deleted


def _is_older(store: ReleaseStore, contract: str, name: str, moment: datetime) -> bool:
    """Whether a release was made before; nobody knows it of a damaged one."""
    try:
        return store.manifest(contract, name).created_at < moment
    except ReleaseError:
        return False
