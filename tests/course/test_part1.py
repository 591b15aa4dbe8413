from tests.course.suite import Change, PartSuite


class TestPart1(PartSuite):
    number = 1
    mistakes = (
        Change(
            "migrate.py",
            "with connection, connection.cursor() as cursor:",
            "connection.autocommit = True\n    with connection.cursor() as cursor:",
            "a_migration_that_fails_leaves_nothing_behind",
        ),
        Change(
            "generator.py",
            "with connection, connection.cursor() as cursor:\n        cursor.executemany(",
            "for row in rows:\n      with connection, connection.cursor() as cursor:\n"
            "        rows = [row]\n        cursor.executemany(",
            "kill_9_leaves_no_half_batch",
        ),
        Change(
            "generator.py",
            "cursor.executemany(INSERT, [(*row, source) for row in rows])",
            'cursor.execute(INSERT.replace("%s", "{}").format(*rows[0], f"\'{source}\'"))',
            "text_from_outside_never_becomes_sql",
        ),
        # Without a commit the table is locked, which must not stop the checks for ever.
        Change(
            "generator.py",
            "with connection, connection.cursor() as cursor:\n        cursor.executemany("
            "INSERT, [(*row, source) for row in rows])",
            "cursor = connection.cursor()\n    "
            'cursor.execute(INSERT.replace("%s", "{}").format(*rows[0], f"\'{source}\'"))',
            "text_from_outside_never_becomes_sql",
        ),
    )
    variants = (
        Change(
            "migrate.py",
            'VALUES (%s)"',
            'VALUES (%s) ON CONFLICT DO NOTHING"',
            "a_migration_that_fails_leaves_nothing_behind",
        ),
    )
