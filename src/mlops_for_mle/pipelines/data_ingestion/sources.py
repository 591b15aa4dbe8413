"""Where rows come from, files and scikit-learn's tables; ``postgres.py`` has tables and queries.

A source gives a frame, so any dataset of Kedro that gives one can take its place in the catalog.
A file's digest goes with its rows as ``attrs["sha256"]``: the same file is the same batch, however
it is read.
"""

import codecs
import hashlib
import io
import os
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Literal
from zipfile import BadZipFile

import pandas as pd
from kedro.io import AbstractDataset

from mlops_for_mle.contract import Configuration
from mlops_for_mle.errors import SourceError
from mlops_for_mle.paths import project_path
from mlops_for_mle.pipelines.data_ingestion.typed_files import (
    read_bytes,
    read_excel,
    read_json,
    read_parquet,
)

FileFormat = Literal["csv", "parquet", "excel", "json"]
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}

_KOREAN = "cp949"
# How a file is written shows in its beginning.
_SAMPLE = 2**20
_COMMA_NUMBER = r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*"


class SourceDataset(AbstractDataset[None, pd.DataFrame]):
    """Rows that other programs write and this one only reads."""

    def save(self, data: None) -> None:
        """Not possible."""
        raise NotImplementedError(f"{type(self).__name__} is read-only")


class CsvForm(Configuration):
    """How a CSV file is written.

    Attributes:
        encoding: A name that Python knows, such as ``cp949``; a mark of UTF-8 or UTF-16 at the
            start of a file counts more.
        header: Whether the first line names the columns; else they are called c0, c1, ….
    """

    encoding: str = "utf-8"
    separator: Literal["comma", "semicolon", "tab", "pipe"] = "comma"
    decimal: Literal["point", "comma"] = "point"
    header: bool = True


class FileSourceDataset(SourceDataset):
    """A file that another program or a person made."""

    def __init__(
        self,
        format: FileFormat,
        filepath: str,
        form: dict[str, Any] | None = None,
        sheet: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name a path or URL; how CSV is written: ``CsvForm``; the sheet of a workbook."""
        self._filepath = filepath
        self._form = CsvForm.model_validate(form or {}) if format == "csv" else None
        self._read: Callable[[bytes], pd.DataFrame] = {
            "csv": lambda content: read_csv(content, CsvForm.model_validate(form or {})),
            "parquet": read_parquet,
            "excel": lambda content: read_excel(content, sheet),
            "json": read_json,
        }[format]
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """The rows.

        Raises:
            SourceError: The file cannot be read; says why.
        """
        try:
            content = read_bytes(self._filepath)
            rows = self._read(content)
        except (OSError, EOFError, ValueError, ImportError, BadZipFile, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error).strip()
            raise SourceError(f"{self._filepath}: {reason}") from error
        rows.attrs["sha256"] = hashlib.sha256(content.removeprefix(codecs.BOM_UTF8)).hexdigest()
        return rows

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "form": self._form}


def read_csv(content: bytes, form: CsvForm) -> pd.DataFrame:
    """Read the bytes of a CSV file.

    Returns:
        Every column as text, without blanks around names and values; a field that is empty or not
        there is an empty text. Where rows end with a separator too many, nothing follows it.

    Raises:
        ValueError: It is no CSV file of this form; says what it looks like.
    """
    if content.startswith(b"PK\x03\x04"):
        raise ValueError("is an Excel workbook or another ZIP archive: save the sheet as CSV")
    encoding = _encoding(content, form.encoding)
    try:
        encoded = content.decode(encoding).encode()
    except UnicodeError as error:
        other = f"{_KOREAN}, of Korean Windows" if _is_korean(content) else "cp1252, of Windows"
        raise ValueError(f"{error}: set csv_encoding, such as {other}") from None
    # Given the header, pandas would rename a repeated column and take surplus fields at the start
    # of the rows for an index.
    options: dict[str, Any] = {
        "header": None,
        "dtype": str,
        "keep_default_na": False,
        "sep": SEPARATORS[form.separator],
        "skipinitialspace": True,
    }
    try:
        lines: pd.DataFrame = pd.read_csv(io.BytesIO(encoded), **options)
    except pd.errors.ParserError:
        # Perhaps rows end with a separator that their header lacks.
        width = pd.read_csv(io.BytesIO(encoded), nrows=1, **options).shape[1]
        wider = None
        with suppress(pd.errors.ParserError):
            columns = list(range(width + 1))
            wider = pd.read_csv(io.BytesIO(encoded), names=columns, **options)
        # What was found first counts the fields as the file has them.
        if wider is None or wider.pop(width).str.strip().any():
            raise
        lines = wider
    lines = lines.apply(lambda column: column.str.strip())
    if form.header:
        names = lines.iloc[0].tolist()
        lines = lines.iloc[1:].set_axis(names, axis="columns").reset_index(drop=True)
    else:
        lines = lines.add_prefix("c")
    if form.decimal == "comma":
        lines = lines.apply(
            lambda column: column.mask(
                column.str.fullmatch(_COMMA_NUMBER), column.str.replace(",", ".", regex=False)
            )
        )
    return lines


def guess_csv_form(content: bytes, encoding: str | None = None, header: bool = True) -> CsvForm:
    """Tell how a CSV file is written by its bytes; UTF-8 where its encoding cannot be told."""
    if encoding is None:
        encoding = _KOREAN if _is_korean(content) else "utf-8"
    text = content.decode(_encoding(content, encoding), errors="replace")[:_SAMPLE]
    # The first line that holds anything, without what stands in quotes.
    first = re.sub(r'"[^"]*"', "", text.lstrip("\r\n")).partition("\n")[0]
    separator = max(SEPARATORS, key=lambda name: first.count(SEPARATORS[name]))
    lines = text.split("\n")[1:]
    fields = {one.strip('"\r ') for line in lines for one in line.split(SEPARATORS[separator])}
    has_commas = any(re.fullmatch(_COMMA_NUMBER, one) for one in fields)
    has_points = any(re.fullmatch(r"[+-]?\d+\.\d+", one) for one in fields)
    decimal = "comma" if has_commas and not has_points and separator != "comma" else "point"
    raw = {"encoding": encoding, "separator": separator, "decimal": decimal, "header": header}
    return CsvForm.model_validate(raw)


class SklearnTableDataset(SourceDataset):
    """A table out of ``sklearn.datasets``, whole or as a random sample of it.

    It is kept in a folder of the project, because importing scikit-learn takes longer than the
    rest of an ingestion.
    """

    def __init__(
        self,
        loader: str,
        cache: str,
        sample_rows: int | None = None,
        seed: int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the function that loads it, such as ``load_wine``, and how many rows are drawn."""
        self._loader = loader
        # Kedro makes only paths of other names absolute, and a notebook is run in its own folder.
        self._cache = project_path() / cache
        self._sample_rows = sample_rows
        self._seed = seed
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Features and a column ``target``, under scikit-learn's names."""
        from pyarrow.parquet import ParquetFile

        path = self._cache / f"{self._loader}-scikit-learn-{version('scikit-learn')}.parquet"
        if not path.exists():
            from sklearn import datasets

            table = getattr(datasets, self._loader)(as_frame=True).frame
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}")
            table.to_parquet(partial, index=False)
            partial.replace(path)
        # pandas' reader would import what folders of files need, which takes longer than the rest.
        with ParquetFile(path) as file:
            rows: pd.DataFrame = file.read().to_pandas()
        if self._sample_rows is None:
            return rows
        return rows.sample(
            self._sample_rows, replace=True, random_state=self._seed, ignore_index=True
        )

    def _describe(self) -> dict[str, Any]:
        return {"loader": self._loader, "sample_rows": self._sample_rows, "seed": self._seed}


def _encoding(content: bytes, encoding: str) -> str:
    """The encoding of a file of which one was said: a mark at its start counts more."""
    if content.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\x00" in content and not codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        raise ValueError("holds NUL bytes, so it is no text, or else csv_encoding: utf-16-le")
    return encoding


def _is_korean(content: bytes) -> bool:
    """Whether bytes that are no UTF-8 are mostly Hangul in CP949, which others hardly are."""
    with suppress(UnicodeError):
        content.decode()
        return False
    with suppress(UnicodeError):
        foreign = [one for one in content.decode(_KOREAN)[:_SAMPLE] if not one.isascii()]
        return sum("가" <= one <= "힣" for one in foreign) > len(foreign) / 2
    return False
