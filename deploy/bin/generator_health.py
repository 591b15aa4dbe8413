#!/usr/bin/env python
"""Succeeds while the generator's newest batch is younger than so many seconds."""

import argparse
import os
import sys

import psycopg2

NEWEST = """
    SELECT extract(epoch FROM now() - created_at)
    FROM ingestion_batches WHERE source LIKE 'stream %' ORDER BY id DESC LIMIT 1
"""


def main() -> int:
    """Ask the ledger once; the reason of a failure goes to the health log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--newest", type=float, required=True, metavar="SECONDS")
    limit = parser.parse_args().newest
    try:
        connection = psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=5)
        with connection.cursor() as cursor:
            cursor.execute(NEWEST)
            newest = cursor.fetchone()
    except psycopg2.Error as error:
        sys.stdout.write(f"The database does not answer: {' '.join(str(error).split())}\n")
        return 1
    if newest is None:
        sys.stdout.write("No batch was written yet.\n")
        return 1
    if newest[0] > limit:
        sys.stdout.write(f"The newest batch is {newest[0]:.0f} s old; allowed are {limit:g} s.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
