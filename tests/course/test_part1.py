from tests.course.suite import Mistake, Variant, VariantSuite


class TestPart1(VariantSuite):
    number = 1
    mistakes = (
        Mistake(
            "database.py",
            "if time.monotonic() > deadline:\n                raise",
            "pass",
            "connect_does_not_wait_for_ever",
        ),
        Mistake(
            "migrate.py",
            "with connection, connection.cursor() as cursor:",
            "connection.autocommit = True\n    with connection.cursor() as cursor:",
            "a_migration_that_fails_leaves_nothing_behind",
        ),
        Mistake(
            "generator.py",
            "with connection, connection.cursor() as cursor:\n        cursor.executemany(",
            "for row in rows:\n      with connection, connection.cursor() as cursor:\n"
            "        rows = [row]\n        cursor.executemany(",
            "kill_9_leaves_no_half_batch",
        ),
        Mistake(
            "generator.py",
            "cursor.executemany(INSERT, [(*row, source) for row in rows])",
            'cursor.execute(INSERT.replace("%s", "{}").format(*rows[0], f"\'{source}\'"))',
            "text_from_outside_never_becomes_sql",
        ),
        # Without a commit the table is locked, which must not stop the checks for ever.
        Mistake(
            "generator.py",
            "with connection, connection.cursor() as cursor:\n        cursor.executemany("
            "INSERT, [(*row, source) for row in rows])",
            "cursor = connection.cursor()\n    "
            'cursor.execute(INSERT.replace("%s", "{}").format(*rows[0], f"\'{source}\'"))',
            "text_from_outside_never_becomes_sql",
        ),
        Mistake(
            "generator.py",
            "psycopg2.OperationalError, psycopg2.InterfaceError",
            "ZeroDivisionError",
            "the_generator_goes_on_when_the_database_has_come_back",
        ),
    )

    variants = (
        Variant(
            "migrate.py",
            'VALUES (%s)"',
            'VALUES (%s) ON CONFLICT DO NOTHING"',
            "a_migration_that_fails_leaves_nothing_behind",
        ),
        Variant(
            "Dockerfile",
            "COPY database.py migrate.py generator.py iris.csv ./",
            "COPY . .",
            "the_image_holds_what_the_generator_needs",
        ),
        Variant(
            "compose.yaml",
            "volumes: [postgres-data:/var/lib/postgresql]",
            "volumes: [{type: volume, source: postgres-data, target: /var/lib/postgresql}]",
            "compose_starts_the_generator_when_the_database_is_healthy",
        ),
    )
