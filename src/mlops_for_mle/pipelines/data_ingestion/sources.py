"""Where rows come from, files and scikit-learn's tables; ``postgres.py`` has tables and queries.

A source gives a frame, so any dataset of Kedro that gives one can take its place in the catalog.
A file's digest goes with its rows as ``attrs["sha256"]``: the same file is the same batch, however
it is read.
"""

import codecs
import hashlib
import os
import re
import zlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile

import fsspec
import pandas as pd
from kedro.io import AbstractDataset

from mlops_for_mle.errors import SourceError
from mlops_for_mle.paths import project_path
from mlops_for_mle.pipelines.data_ingestion.csv_text import CsvForm, read_csv
from mlops_for_mle.pipelines.data_ingestion.typed_files import read_excel, read_json, read_parquet


class SourceDataset(AbstractDataset[None, pd.DataFrame]):
    """Rows that other programs write and this one only reads."""

    def __init__(self, metadata: dict[str, Any] | None, **described: Any) -> None:
        """Say what is shown of it."""
        self.metadata = metadata
        self._described = described

    def save(self, data: None) -> None:
        """Not possible."""
        raise NotImplementedError(f"{type(self).__name__} is read-only")

    def _describe(self) -> dict[str, Any]:
        return self._described


class FileSourceDataset(SourceDataset):
    """A file that another program or a person made."""

    def __init__(
        self,
        format: Literal["csv", "parquet", "excel", "json"],
        filepath: str,
        form: dict[str, Any] | None = None,
        sheet: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name a path or URL; how CSV is written: ``CsvForm``; the sheet of a workbook."""
        super().__init__(metadata, filepath=filepath)
        self._filepath = filepath
        readers: dict[str, Callable[[bytes], pd.DataFrame]] = {
            "csv": partial(read_csv, form=CsvForm.model_validate(form or {})),
            "parquet": read_parquet,
            "excel": partial(read_excel, sheet=sheet),
            "json": read_json,
        }
        self._read = readers[format]

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


def read_bytes(place: str) -> bytes:
    """The bytes of a file at a path or URL, unpacked if it ends in ``.gz``, ``.zip`` or the like.

    Raises:
        ValueError: A ZIP archive holds other than one file.
    """
    if not place.endswith(".zip"):
        with fsspec.open(place, "rb", compression="infer") as file:
            return bytes(file.read())
    with fsspec.open(place, "rb") as file, ZipFile(file) as archive:
        # The first is what macOS puts beside each file.
        names = [one for one in archive.namelist() if not re.match(r"__MACOSX/|.*/$", one)]
        if len(names) != 1:
            raise ValueError(f"expected one file in the archive, found {', '.join(names)}")
        return archive.read(names[0])


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
        super().__init__(metadata, loader=loader, sample_rows=sample_rows, seed=seed)
        self._loader = loader
        # Kedro makes only paths of other names absolute, and a notebook is run in its own folder.
        self._cache = project_path() / cache
        self._sample_rows, self._seed = sample_rows, seed

    def load(self) -> pd.DataFrame:
        """Features and a column ``target``, under scikit-learn's names."""
        from pyarrow import parquet

        path = self._cache / f"{self._loader}-scikit-learn-{version('scikit-learn')}.parquet"
        if not path.exists():
            from sklearn import datasets

            table = getattr(datasets, self._loader)(as_frame=True).frame
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}")
            table.to_parquet(partial, index=False)
            partial.replace(path)
        # pandas' reader would import what folders of files need, which takes longer than the rest.
        with parquet.ParquetFile(path) as file:
            rows: pd.DataFrame = file.read().to_pandas()
        count, seed = self._sample_rows, self._seed
        return rows if count is None else rows.sample(count, replace=True, random_state=seed)
