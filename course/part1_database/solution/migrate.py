"""Brings the database's tables to the newest revision: ``python migrate.py``."""

from psycopg2.extensions import connection as Connection

from database import connect, database_url

# Only ever add to the end: what stands here may have been applied somewhere.
MIGRATIONS = [
    """
    CREATE TABLE iris_data (
        id serial PRIMARY KEY,
        timestamp timestamp DEFAULT current_timestamp,
        sepal_length float8,
        sepal_width float8,
        petal_length float8,
        petal_width float8,
        target int
    )
    """,
    "ALTER TABLE iris_data ADD COLUMN source text NOT NULL DEFAULT 'unknown'",
]


def migrate(connection: Connection) -> int:
    """Apply, in one transaction, the migrations that are missing.

    Returns:
        The revision that the database is at now: how many migrations it has had.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS schema_revisions (revision int PRIMARY KEY)")
        cursor.execute("SELECT revision FROM schema_revisions")
        applied = {revision for (revision,) in cursor.fetchall()}
        for revision, statement in enumerate(MIGRATIONS, start=1):
            if revision not in applied:
                cursor.execute(statement)
                cursor.execute("INSERT INTO schema_revisions VALUES (%s)", (revision,))
    return len(MIGRATIONS)


if __name__ == "__main__":
    print(f"The database is at revision {migrate(connect(database_url()))}.")
