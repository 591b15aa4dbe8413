"""Where rows come from: files, scikit-learn's tables, and tables and queries of PostgreSQL.

A file's digest goes with its rows as ``attrs["sha256"]``: the same file is the same batch, however
it is read.
"""

import codecs
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile

import fsspec
import numpy as np
import pandas as pd
from sqlalchemy import Connection

from mlops_for_mle.contract.columns import to_frame
from mlops_for_mle.contract.model import EXACT_BELOW, normalised
from mlops_for_mle.database.copying import (
    arrow_type,
    begin_read_only,
    copy_out,
    primary_key,
    relation,
)
from mlops_for_mle.database.engine import engine_for, normalise_url, quoted
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.paths import project_path
from mlops_for_mle.pipelines.data_ingestion import csv_text
from mlops_for_mle.pipelines.data_ingestion.csv_text import CsvForm, Unread
from mlops_for_mle.pipelines.dataset import ProjectDataset
from mlops_for_mle.releases.manifest import sha256_of

# They tell how many columns a CSV file has.
_FIRST_LINES = 100
_UNNAMED_INDEX = r"__index_level_\d+__"

# By the object ids of Postgres's own types: times, and whether they have a zone.
_TIMES, _NUMERIC = {1082: False, 1114: False, 1184: True}, 1700
_TYPES = "SELECT oid, typname, typcategory FROM pg_type WHERE oid = ANY(%s)"
# What can be read of values that no contract can hold, by their type or its category in pg_type.
_CASTS = {
    **dict.fromkeys(("json", "jsonb"), "{} ->> 'key'"),
    **dict.fromkeys(("time", "timetz"), "extract(hour FROM {})"),
    **{"money": "{}::numeric", "interval": "extract(epoch FROM {})", "bytea": "length({})"},
    **{"A": "{}[1]", "C": "({}).field", "R": "lower({})", "bit": "{}::integer"},
    **dict.fromkeys(("G", "U", "V"), "{}::text"),
    "uuid": "",
}


class FileSourceDataset(ProjectDataset):
    """A file that another program or a person made."""

    def __init__(
        self,
        format: Literal["csv", "parquet", "excel", "json"],
        filepath: str,
        form: dict[str, Any] | None = None,
        sheet: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name a URL or a path in the project; how CSV is written; the sheet of a workbook."""
        super().__init__(metadata, filepath=filepath)
        # Kedro makes paths absolute in its runs, but not in commands of the project's own.
        self._location = filepath if "://" in filepath else str(project_path() / filepath)
        readers: dict[str, Callable[[bytes], pd.DataFrame]] = {
            "csv": partial(read_csv, form=CsvForm.model_validate(form or {})),
            "parquet": read_parquet,
            "excel": partial(read_excel, sheet=sheet),
            "json": read_json,
        }
        self._read = readers[format]

    def load(self) -> pd.DataFrame:
        """The rows; a ``UserError`` says why they cannot be read."""
        try:
            content = read_bytes(self._location)
            rows = self._read(content)
        except (OSError, EOFError, ValueError, ImportError, BadZipFile, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error).strip()
            raise UserError(f"{self._location}: {reason}") from error
        rows.attrs["sha256"] = sha256_of(content.removeprefix(codecs.BOM_UTF8))
        return rows


def read_bytes(location: str) -> bytes:
    """The bytes of a file at a path or URL, unpacked if it is called ``.gz``, ``.zip`` or so."""
    if not location.endswith(".zip"):
        with fsspec.open(location, "rb", compression="infer") as file:
            return bytes(file.read())
    with fsspec.open(location, "rb") as file, ZipFile(file) as archive:
        # macOS puts a __MACOSX beside each file.
        names = [name for name in archive.namelist() if not re.match(r"__MACOSX/|.*/$", name)]
        if len(names) != 1:
            raise ValueError(f"expected one file in the archive, found {', '.join(names)}")
        return archive.read(names[0])


def read_csv(content: bytes, form: CsvForm) -> pd.DataFrame:
    """Read the bytes of a CSV file; a ``ValueError`` says why no row of it can be read.

    Every column is text, without blanks around names and values and without blank rows. Empty
    fields beyond the header are dropped; a blank name becomes c0, c1, … by its place, and names
    that are there twice are numbered. ``attrs["unread"]`` has an ``Unread`` for the number of each
    row that cannot be read; row 1 has index 0 whether it can or not.
    """
    if content.startswith(b"PK\x03\x04"):
        raise ValueError("is an Excel workbook or another ZIP archive: save the sheet as CSV")
    # Bytes that are no text stand as lone surrogates.
    text = content.decode(csv_text.encoding_of(content, form.encoding), "surrogateescape")
    lines = list(islice(io.StringIO(text, newline=""), form.skip_lines + _FIRST_LINES))
    first_records = list(csv_text.read_records(lines, form))
    if not first_records:
        raise ValueError("no lines to read")
    usual_width = csv_text.usual_width(first_records[form.header :] or first_records)
    names = first_records[0].fields if form.header else [""] * usual_width
    while len(names) > usual_width and not names[-1].strip():
        names.pop()
    fields, unread = _read_with_pyarrow(text, form, len(names)), dict[int, Unread]()
    if fields is None:
        fields, unread = _read_with_csv(text, form, len(names))
    rows: pd.DataFrame = fields.apply(lambda column: column.str.strip())
    rows = rows[(rows != "").any(axis="columns")].iloc[int(form.header) :]
    return _numbered(rows, unread).set_axis(_distinct(names), axis="columns")


def _numbered(rows: pd.DataFrame, unread: dict[int, Unread]) -> pd.DataFrame:
    """Index rows by their number less 1, counting unread ones; refuse where none can be read."""
    if unread and (rows.empty or 0 in unread):
        raise ValueError(f"no row can be read, {next(iter(unread.values())).reason}")
    numbers = np.setdiff1d(np.arange(1, len(rows) + len(unread) + 1), list(unread))
    rows = rows.set_axis(numbers - 1)
    rows.attrs["unread"] = unread
    return rows


def _read_with_pyarrow(text: str, form: CsvForm, width: int) -> pd.DataFrame | None:
    """The fields of a file in which nothing is wrong, with its header; None for any other file.

    PyArrow does not say which line is wrong, but takes a quarter of the time of Python's reader.
    """
    import pyarrow as pa
    from pyarrow import csv

    separator = form.dialect["delimiter"]
    if form.quotes != "doubled" or form.separator == "space" or form.comments:
        return None
    # PyArrow also takes quotes that neither begin nor end a field, or do so beside a blank.
    ends = re.escape(f"{separator}\r\n")
    odd_quote = rf'"(?<=[^{ends}"]")[^{ends}"]|"(?<=[{ends}][ \t]")'
    if csv_text.UNREADABLE.search(text) or text.count('"') % 2 or re.search(odd_quote, text):
        return None
    types = dict.fromkeys(map(str, range(width)), pa.large_string())
    block = min(4 * len(text) + 1, 2**31 - 1)
    try:
        table = csv.read_csv(
            pa.py_buffer(text.encode()),
            csv.ReadOptions(column_names=list(types), skip_rows=form.skip_lines, block_size=block),
            csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    rows: pd.DataFrame = table.to_pandas()
    return rows


def _read_with_csv(text: str, form: CsvForm, width: int) -> tuple[pd.DataFrame, dict[int, Unread]]:
    """The fields of the rows that can be read, with the header; the others by their number."""
    lines, fields, unread = io.StringIO(text, newline="").readlines(), [], {}
    for number, record in enumerate(csv_text.read_records(lines, form, width), 1 - form.header):
        if record.problem:
            line = "".join(lines[record.start : record.end]).rstrip("\r\n")
            printable = line.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            unread[number] = Unread(f"line {record.start + 1}: {record.problem}", printable)
        else:
            fields.append(record.fields)
    return pd.DataFrame(fields, columns=range(width), dtype="str"), unread


def _distinct(names: Sequence[str]) -> list[str]:
    filled = [normalised(name.strip()) or f"c{position}" for position, name in enumerate(names)]
    return [
        f"{name}_{filled[: position + 1].count(name)}" if filled.count(name) > 1 else name
        for position, name in enumerate(filled)
    ]


def read_parquet(content: bytes) -> pd.DataFrame:
    """Read the bytes of a Parquet file with its types, without an index that has no name."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(pa.BufferReader(content)).read()
    names = [name for name in table.column_names if not re.fullmatch(_UNNAMED_INDEX, name)]
    return to_frame(table.select(names))


def read_excel(content: bytes, sheet: str | None = None) -> pd.DataFrame:
    """Read a workbook's only sheet or the one that is named; names are in its first wide row.

    Blank and repeated names are as in ``read_csv``.
    """
    # Each cell is a value, also what pandas takes for a name, an index or a missing value.
    options: dict[str, Any] = {"header": None, "dtype": object, "na_filter": False}
    wanted = None if sheet is None else [sheet]
    sheets = pd.read_excel(io.BytesIO(content), wanted, engine="openpyxl", **options)
    if len(sheets) > 1:
        raise ValueError(f"has the sheets {', '.join(map(str, sheets))}: name one of them")
    (cells,) = sheets.values()
    filled = cells.mask(cells == "").dropna(how="all").dropna(how="all", axis="columns")
    if filled.empty:
        raise ValueError("has no rows")
    filled = filled.loc[(2 * filled.notna().sum(axis="columns") >= filled.shape[1]).idxmax() :]
    names = _distinct([str(name) for name in filled.iloc[0].fillna("")])
    return filled.iloc[1:].set_axis(names, axis="columns").reset_index(drop=True).apply(_typed)


def read_json(content: bytes) -> pd.DataFrame:
    """Read the bytes of a file with one JSON object a line, or with one array of objects.

    ``attrs["unread"]`` has the lines that hold none, as in ``read_csv``.
    """
    text = content.decode("utf-8-sig", "surrogateescape")
    decode, unread = json.JSONDecoder(parse_int=_whole_number).decode, dict[int, Unread]()

    def read(part: str) -> list[dict[str, Any]]:
        if csv_text.UNREADABLE.search(part):
            raise ValueError("is not written in utf-8")
        decoded = decode(part)
        objects: list[dict[str, Any]] = decoded if isinstance(decoded, list) else [decoded]
        if not all(isinstance(item, dict) for item in objects):
            raise ValueError("expected a JSON object for each row")
        return objects

    if text.lstrip().startswith("["):
        return pd.DataFrame(read(text), dtype=object).apply(_typed)
    objects = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            objects += read(line) if line.strip() else []
        except (ValueError, RecursionError) as error:
            unread[len(objects) + len(unread) + 1] = Unread(f"line {number}: {error}", line)
    return _numbered(pd.DataFrame(objects, dtype=object).apply(_typed), unread)


def _whole_number(digits: str) -> int | str:
    """A whole number; one that no float can hold stays text, and is refused as such."""
    return int(digits) if len(digits) < sys.float_info.max_10_exp else digits


def _typed(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column of objects with its type: text where kinds are mixed, such as numbers and marks."""
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    is_nested = column.map(lambda value: isinstance(value, list | dict)).any()
    is_mixed = inferred.startswith("mixed") and inferred != "mixed-integer-float" and not is_nested
    if inferred == "string" or is_mixed:
        # JSON may hold half of a pair of surrogates, which is no character.
        return column.map(lambda value: str(value).encode("utf-8", "replace").decode(), "ignore")
    # As floats, whole numbers beside gaps would not all be kept.
    is_kept = inferred == "integer" and column.isna().any()
    return column if is_kept else column.infer_objects()


class SklearnTableDataset(ProjectDataset):
    """A table out of ``sklearn.datasets``, whole or as a random sample of it."""

    def __init__(
        self,
        loader: str,
        cache: str,
        sample_rows: int | None = None,
        seed: int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the function that loads it, such as ``load_wine``, and how many rows are drawn."""
        super().__init__(metadata, loader=loader, sample_rows=sample_rows, seed=seed)
        self._loader = loader
        # Kedro makes no path of this name absolute, and a notebook is run in its own folder.
        self._cache = project_path() / cache
        self._sample_rows, self._seed = sample_rows, seed

    def load(self) -> pd.DataFrame:
        """Features and a column ``target``, under scikit-learn's names."""
        # It is kept, since importing scikit-learn takes longer than the rest of an ingestion.
        path = self._cache / f"{self._loader}-scikit-learn-{version('scikit-learn')}.feather"
        if not path.exists():
            from sklearn import datasets

            table = getattr(datasets, self._loader)(as_frame=True).frame
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"{path.name}.{os.getpid()}")
            table.to_feather(unfinished)
            unfinished.replace(path)
        rows = pd.read_feather(path)
        if self._sample_rows is None:
            return rows
        return rows.sample(self._sample_rows, replace=True, random_state=self._seed)


class PostgresSourceDataset(ProjectDataset):
    """A table or a query, of the database of ``SOURCE_DATABASE_URL`` or of the project's."""

    def __init__(
        self,
        credentials: dict[str, Any],
        table: str | None = None,
        query: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name a table or view, with its schema and a dot where needed, or give one SELECT."""
        super().__init__(metadata, table=table, query=query)
        if table is None and query is None:
            raise ConfigurationError("source_table or source_query has to be set in globals.yml")
        other = os.environ.get("SOURCE_DATABASE_URL", "").strip()
        self._url = normalise_url(other, "SOURCE_DATABASE_URL") if other else credentials["con"]
        self._table, self._query = table or "", query

    def load(self) -> pd.DataFrame:
        """The rows, as ``read_query`` gives them."""
        with engine_for(self._url).connect() as connection:
            return read_query(connection, self._select(connection))

    def plan(self) -> str:
        """How PostgreSQL would read them: it names each table, also below views."""
        with engine_for(self._url).connect() as connection:
            begin_read_only(connection, f"EXPLAIN {self._select(connection)}")
            return "\n".join(connection.exec_driver_sql("FETCH ALL FROM mlops_rows").scalars())

    def _select(self, connection: Connection) -> str:
        if self._query:
            return self._query
        table = relation(connection, self._table)
        # In another order, which an UPDATE leaves, the same rows would be another batch.
        keys = ", ".join(map(quoted, primary_key(connection, table)))
        return f"SELECT * FROM {table}{' ORDER BY ' * bool(keys)}{keys}"  # noqa: S608


def read_query(connection: Connection, query: str) -> pd.DataFrame:
    """Read the rows of one SELECT, in a transaction that cannot write and that it cannot end.

    Whole numbers are Int64, others float64, dates and times datetime64 where that can hold all of
    them, everything else the text that the server writes. ``attrs["types"]`` are the names of
    Postgres's types by column; ``attrs["left_out"]`` says of columns why no contract can hold their
    values, and what can be read of them.
    """
    import pyarrow as pa

    columns = begin_read_only(connection, query)
    names = [column.name for column in columns]
    oids = [column.type_code for column in columns]
    pg_types = connection.exec_driver_sql(_TYPES, (oids,))
    by_oid = {oid: (name, _CASTS.get(name, _CASTS.get(group))) for oid, name, group in pg_types}
    # Named by position, since two columns may have one name, which is reported later.
    types = {str(position): arrow_type(oid) for position, oid in enumerate(oids)}
    batches = copy_out(connection, query.strip().removesuffix(";"), list(types.values()))
    table = pa.Table.from_batches(batches, pa.schema(types))
    rows = to_frame(table)
    for name, column in zip(types, columns, strict=True):
        if column.type_code in _TIMES:
            # What pandas cannot hold, such as infinity, stays text for the contract to refuse.
            with suppress(ValueError):
                is_utc = _TIMES[column.type_code]
                rows[name] = pd.to_datetime(rows[name], format="ISO8601", utc=is_utc)
        elif column.type_code == _NUMERIC:
            numbers = table[name].cast(pa.float64()).to_pandas()
            # Otherwise different accounts of twenty digits would become one.
            if not ((numbers.abs() >= EXACT_BELOW) & np.isfinite(numbers)).any():
                rows[name] = numbers
    rows.columns = pd.Index(names)
    described = [(column.name, *by_oid[column.type_code]) for column in columns]
    rows.attrs["types"] = {name: type_ for name, type_, _ in described}
    rows.attrs["left_out"] = {
        name: f"has Postgres's type {type_}, which no contract can hold: read what is to be known "
        f"of it by --query, such as SELECT {cast.format(quoted(name))}"
        for name, type_, cast in described
        if cast
    }
    return rows
