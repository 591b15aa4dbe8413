"""Brings the database's tables to the newest revision: ``python migrate.py``."""

from psycopg2.extensions import connection as Connection

from database import connect, database_url

# Only ever add to the end: what stands here may have been applied somewhere.
MIGRATIONS = [
    "...",  # step 2: create iris_data
    "...",  # step 2: add the column source
]


def migrate(connection: Connection) -> int:
    """Apply, in one transaction, the migrations that are missing.

    Returns:
        The revision that the database is at now: how many migrations it has had.
    """
    raise NotImplementedError("step 2: apply each migration that schema_revisions does not have")


if __name__ == "__main__":
    print(f"The database is at revision {migrate(connect(database_url()))}.")
