"""`kedro db`: the embedded server and the project's tables."""

import os
import shutil
import subprocess
import sys

import click

from mlops_for_mle.commands.project import Project, with_project
from mlops_for_mle.commands.prune import prune
from mlops_for_mle.database import embedded, schema
from mlops_for_mle.database.engine import database_url, is_embedded
from mlops_for_mle.errors import UserError
from mlops_for_mle.paths import embedded_home


@click.group(name="db", commands=[prune])
def database_commands() -> None:
    """The database: start, stop, look into it, upgrade it, prune it."""


@database_commands.command()
def start() -> None:
    """Start the embedded server and keep it running until `kedro db stop`."""
    _require_embedded("start")
    server = embedded.keep_running(embedded_home())
    click.echo(f"PostgreSQL runs on 127.0.0.1:{server.port}; stop it with `kedro db stop`.")


@database_commands.command()
def stop() -> None:
    """Stop the embedded server, also when other processes use it."""
    _require_embedded("stop")
    ran = embedded.stop(embedded_home())
    click.echo("PostgreSQL was stopped." if ran else "PostgreSQL was not running.")


@database_commands.command()
@click.option("--database", metavar="NAME", help="Another of the embedded server, made if need be.")
def url(database: str | None) -> None:
    """Print the database's URL for this moment; the password stands in a file it names."""
    if is_embedded() and embedded.find(embedded_home()) is None:
        raise UserError("PostgreSQL is not running: start it with `kedro db start`.")
    found = database_url()
    if database:
        _require_embedded("make a database in")
        found = embedded.acquire(embedded_home(), databases=(database,)).url(database)
    # The form that every client understands, not only SQLAlchemy.
    click.echo(found.replace("+psycopg2", "", 1))


@database_commands.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the project's database; arguments are passed on to it."""
    from psycopg2.extensions import make_dsn
    from sqlalchemy.engine import make_url

    program = shutil.which("psql") or str(embedded.binary("psql"))
    target = make_url(database_url())
    _, place = target.get_dialect()().create_connect_args(target)
    # Kept out of the arguments, which everybody on the machine can read.
    secret = {"PGPASSWORD": place.pop("password")} if "password" in place else {}
    command = [program, make_dsn(**place), *arguments]
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
    table = project.contract.table
    changed = schema.ensure_observations(database_url(), project.contract, may_change=yes)
    outcome = "was made or changed" if changed else "fits the contract"
    click.echo(f"Tables are at revision {schema.HEAD_REVISION}; {table} {outcome}.")


@database_commands.command()
@click.confirmation_option(prompt="Delete all rows, runs and models of the embedded server?")
def destroy() -> None:
    """Delete the embedded server's data for good."""
    _require_embedded("destroy")
    if embedded.is_used(embedded_home()):
        raise UserError("A process uses the embedded server, such as `kedro serve`: end it first.")
    embedded.destroy(embedded_home())
    click.echo("The embedded server's data was deleted.")


def _require_embedded(verb: str) -> None:
    if not is_embedded():
        raise UserError(
            f"DATABASE_URL names an external database, so there is no embedded one to {verb}."
        )
