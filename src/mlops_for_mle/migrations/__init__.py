"""The revisions of the project's own tables, run by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

_FOLDER = Path(__file__).parent


def alembic_configuration() -> Config:
    """The Alembic configuration of these revisions."""
    configuration = Config()
    configuration.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    return configuration


def head_revision() -> str | None:
    """The newest revision in this folder."""
    return ScriptDirectory.from_config(alembic_configuration()).get_current_head()


def run_migrations(connection: Connection) -> None:
    """Apply every missing revision in one transaction on the given connection."""
    configuration = alembic_configuration()
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")
    connection.commit()
