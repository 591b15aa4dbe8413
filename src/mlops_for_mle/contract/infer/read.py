"""Reads the rows to infer from, by the datasets that ingestion reads with."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mlops_for_mle.contract.notation import read_times
from mlops_for_mle.database.engine import database_url
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.data_ingestion.csv_text import guess_csv_form
from mlops_for_mle.pipelines.data_ingestion.sources import (
    FileSourceDataset,
    PostgresSourceDataset,
    read_bytes,
)


class Source(NamedTuple):
    """Rows, where they come from in words, and the same as ``globals.yml`` says it."""

    rows: pd.DataFrame
    name: str
    settings: dict[str, Any]


def read_file(
    project: Path, kind: str, location: str, encoding: str | None, sheet: str | None, header: bool
) -> Source:
    """Read a file; a relative path begins in the folder where the command was called."""
    configured = location
    if "://" not in location:
        path = Path(location).expanduser().resolve()
        location = str(path)
        configured = str(path.relative_to(project) if path.is_relative_to(project) else path)
    settings: dict[str, Any] = {"source": kind, f"{kind}_path": configured}
    if sheet:
        settings["excel_sheet"] = sheet
    form: dict[str, Any] = {}
    if kind == "csv":
        guessed = guess_csv_form(read_bytes(location), encoding, header)
        form = guessed.model_dump(exclude_defaults=True)
        settings |= {f"csv_{key}": value for key, value in form.items()}
    rows = FileSourceDataset(kind, location, form, sheet).load()  # type: ignore[arg-type]
    return Source(rows, configured.rpartition("/")[2], settings)


def read_database(kind: str, relation: str, contract: str) -> Source:
    """Read a table, or the rows of a query.

    Raises:
        ConfigurationError: The contract would write into what it reads: each run would double it.
    """
    table, con = f"{contract}_data", {"con": database_url()}
    source = PostgresSourceDataset(con, **{kind: relation})  # type: ignore[arg-type]
    # A view does not tell it by its name.
    if re.search(rf"\b{re.escape(table)}\b", relation + source.plan(), re.IGNORECASE):
        raise ConfigurationError(
            f"--name: contract {contract!r} would write its rows into {table}, which is what it "
            "reads; name another."
        )
    rows = source.load()
    for name, type_ in rows.attrs["types"].items() if rows.columns.is_unique else ():
        if type_ == "numeric":
            rows[name] = rows[name].astype(object).map(Decimal, na_action="ignore")
        elif type_ in ("date", "timestamp", "timestamptz") and rows[name].dtype.kind != "M":
            # Ingestion rejects what is no time of the years 1 to 9999.
            is_time = read_times(rows[name]).notna() | rows[name].str.endswith("infinity")
            rows[name] = rows[name].where(is_time)
    name = "the query" if kind == "query" else f"table {relation}"
    return Source(rows, name, {"source": kind, f"source_{kind}": relation})
