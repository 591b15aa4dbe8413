"""`kedro db`: the embedded server, the project's tables, and deleting what is old in them."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import click
import sqlalchemy as sa
from psycopg2.extensions import make_dsn
from sqlalchemy import ColumnElement, Connection, Engine, exists, func, select

from mlops_for_mle.commands.project import Project, duration, with_project
from mlops_for_mle.config import release_store
from mlops_for_mle.database import embedded, schema, tables
from mlops_for_mle.database.engine import database_url, engine_for, is_embedded, lock
from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.paths import embedded_home
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, RetrainingOptions
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.store import ReleaseStore

_ROWS_A_TRANSACTION = 10_000

_PREDICTION, _LABEL = tables.predictions.c, tables.feedback.c


@click.group(name="db")
def database_commands() -> None:
    """The database: start, stop, look into it, upgrade it, prune it."""


@database_commands.command()
def start() -> None:
    """Start the embedded server and keep it running until `kedro db stop`."""
    _require_embedded()
    server = embedded.keep_running(embedded_home())
    click.echo(f"PostgreSQL runs on 127.0.0.1:{server.port}; stop it with `kedro db stop`.")


@database_commands.command()
def stop() -> None:
    """Stop the embedded server, also when other processes use it."""
    _require_embedded()
    ran = embedded.stop(embedded_home())
    click.echo("PostgreSQL was stopped." if ran else "PostgreSQL was not running.")
    if embedded.is_used(embedded_home()):
        click.echo("A process that uses it, such as `kedro serve`, starts it again: end that, too.")


@database_commands.command()
@click.option("--database", metavar="NAME", help="Another of the embedded server, made if need be.")
def url(database: str | None) -> None:
    """Print the database's URL for this moment; the password stands in a file it names."""
    if is_embedded() and embedded.find(embedded_home()) is None:
        raise UserError("PostgreSQL is not running: start it with `kedro db start`.")
    address = database_url()
    if database:
        _require_embedded()
        server = embedded.acquire(embedded_home())
        embedded.make_database(server, database)
        address = server.url(database)
    # The form that every client understands, not only SQLAlchemy.
    click.echo(address.replace("+psycopg2", "", 1))


@database_commands.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the project's database; arguments are passed on to it."""
    program = shutil.which("psql") or str(embedded.binary("psql"))
    target = sa.make_url(database_url())
    _, keywords = target.get_dialect()().create_connect_args(target)
    # Kept out of the arguments, which everybody on the machine can read.
    secret = {"PGPASSWORD": keywords.pop("password")} if "password" in keywords else {}
    command = [program, make_dsn(**keywords), *arguments]
    # In psql it ends a query, not the program.
    signal.signal(signal.SIGINT, lambda *_: None)
    sys.exit(subprocess.run(command, env=os.environ | secret, check=False).returncode)


@database_commands.command()
@with_project
@click.option("--yes", is_flag=True, help="Change the table of observations, too.")
def upgrade(project: Project, yes: bool) -> None:
    """Bring the tables to this program's revision and to the contract.

    Where the table of observations differs from the contract, it is said what would change;
    with --yes it is changed. Columns are only added or loosened, never dropped.
    """
    schema.upgrade(database_url())
    schema.ensure_observations(database_url(), project.contract, may_change=yes)
    table = project.contract.table
    click.echo(f"Tables are at revision {schema.HEAD_REVISION}; {table} fits the contract.")


@database_commands.command()
@click.confirmation_option(prompt="Delete all rows, runs and models of the embedded server?")
def destroy() -> None:
    """Delete the embedded server's data for good."""
    _require_embedded()
    if embedded.is_used(embedded_home()):
        raise UserError("A process uses the embedded server, such as `kedro serve`: end it first.")
    embedded.destroy(embedded_home())
    click.echo("The embedded server's data was deleted.")


def _require_embedded() -> None:
    if not is_embedded():
        raise UserError("DATABASE_URL names an external database: the embedded one is not used.")


@database_commands.command()
@with_project
@click.option("--older-than", required=True, type=duration(timedelta(days=1)), help="Such as 90d.")
@click.option("--yes", is_flag=True, help="Delete; without, it is only said what would be.")
def prune(project: Project, older_than: timedelta, yes: bool) -> None:
    """Delete old predictions with labels, rejects, kept answers, and releases that nothing serves.

    Kept whatever their age: what monitoring and retraining look at of the release in service and
    of the one before it, what an open decision on retraining rests on, and those two releases.
    """
    name, before = project.contract.name, datetime.now(UTC) - older_than
    schema.require_tables(database_url())
    engine, store, releases = engine_for(database_url()), ReleaseStore(release_store()), []
    with engine.begin() as connection:
        # Whoever deploys or rolls back waits.
        lock(connection, f"deployments of {name}")
        history = deployments.history(connection, name)
        # Those that are served, and that a rollback goes back to.
        needed = [history[0].release, deployments.previous_release(history)] if history else []
        # Also what was served at that time and since then.
        newer_count = sum(row.created_at >= before for row in history)
        in_use = {*needed, project.parameters["scoring"]["release"]}
        in_use |= {row.release for row in history[: newer_count + 1]}
        # Not what else the store holds: another project that shares it may serve that.
        for release in sorted({row.release for row in history} - in_use):
            # Deleted before, or damaged.
            with suppress(ReleaseError):
                releases.append(store.manifest(name, release).release)
                if yes:
                    store.delete(name, release)
        needless = [*_needless(connection, name, needed, project.parameters)]
    prunable = sa.and_(_PREDICTION.contract == name, _PREDICTION.created_at < before, *needless)
    label_of_prunable = _LABEL.prediction_id.in_(select(_PREDICTION.prediction_id).where(prunable))
    ingestion_reject, scoring_reject = tables.rejected_rows.c, tables.scoring_rejects.c
    kept_answer = tables.idempotency_keys.c
    conditions = {
        # Labels first, since they are found by their predictions.
        tables.feedback: label_of_prunable,
        tables.predictions: prunable,
        tables.rejected_rows: (ingestion_reject.table_name == project.contract.table)
        & (ingestion_reject.created_at < before),
        tables.scoring_rejects: (scoring_reject.contract == name)
        & (scoring_reject.created_at < before),
        # They hold rows of observations, also those deleted since; seven days they are promised.
        tables.idempotency_keys: (kept_answer.table_name == project.contract.table)
        & (kept_answer.created_at < min(before, datetime.now(UTC) - timedelta(days=7))),
    }
    click.echo(f"{name}, older than {before:%Y-%m-%d %H:%M} UTC:")
    click.echo(f"  {'releases':<16} {', '.join(releases) or 'none'}")
    for table, condition in conditions.items():
        click.echo(f"  {table.name:<16} {_prune(engine, table, condition, yes)} rows")
    click.echo("Deleted." if yes else "Nothing was deleted: add --yes.")


def _needless(
    connection: Connection, contract: str, releases: list[str | None], parameters: dict[str, Any]
) -> Iterator[ColumnElement[bool]]:
    """What must hold of a prediction that neither monitoring nor a decision needs."""
    from mlops_for_mle.pipelines.monitoring.datasets import RetrainingDecisionDataset

    window = MonitoringOptions.model_validate(parameters["monitoring"]).window
    windows = RetrainingOptions.model_validate(parameters["retraining"]).windows
    answered_at = _PREDICTION.created_at
    is_labelled = exists().where(
        _LABEL.prediction_id == _PREDICTION.prediction_id, _LABEL.superseded_at.is_(None)
    )
    for release, subset in product(releases, (sa.true(), is_labelled)):
        rows = (_PREDICTION.contract == contract) & (_PREDICTION.release == release) & subset
        times = select(answered_at).where(rows, answered_at <= func.now())
        oldest = times.order_by(answered_at.desc()).offset(window.rows * windows - 1).limit(1)
        yield ~(rows & (answered_at >= (connection.scalar(oldest) or "-infinity")))
    decision = RetrainingDecisionDataset(parameters["contract"], {"con": database_url()}).load()
    if decision and decision.decision != "none" and decision.acted_at is None:
        yield answered_at < (decision.evidence_from or "-infinity")


def _prune(engine: Engine, table: sa.Table, condition: ColumnElement[bool], delete: bool) -> int:
    """Delete rows, some in each transaction, or count them; gives how many there were."""
    if not delete:
        with engine.connect() as connection:
            count = select(func.count()).select_from(table).where(condition)
            return connection.scalar(count) or 0
    batch = select(*table.primary_key).where(condition).limit(_ROWS_A_TRANSACTION)
    statement = sa.delete(table).where(sa.tuple_(*table.primary_key).in_(batch))
    deleted, rows = 0, 1
    while rows:
        with engine.begin() as connection:
            rows = connection.execute(statement).rowcount
        deleted += rows
    return deleted
