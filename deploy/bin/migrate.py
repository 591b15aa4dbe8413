#!/usr/bin/env python
"""Brings the project's tables, MLflow's tables and the buckets up to date; safe to repeat."""

import os
import subprocess
import sys

import s3fs
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool


def make_buckets(names: list[str]) -> None:
    """Make the buckets that are missing."""
    store = s3fs.S3FileSystem()
    for name in names:
        if not store.exists(name):
            store.mkdir(name)
            sys.stdout.write(f"Bucket {name} was made.\n")


def upgrade_mlflow(url: str) -> None:
    """Upgrade an existing store; an empty one is filled by the server, which starts alone."""
    engine = create_engine(url, poolclass=NullPool)
    if inspect(engine).has_table("alembic_version"):
        subprocess.run(["mlflow", "db", "upgrade", url], check=True)


def main() -> int:
    """Do all three; the first failure ends it."""
    make_buckets(os.environ["BUCKETS"].split())
    subprocess.run(["kedro", "db", "upgrade"], check=True)
    upgrade_mlflow(os.environ["MLFLOW_BACKEND_STORE_URI"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
