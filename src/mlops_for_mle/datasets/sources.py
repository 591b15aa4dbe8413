"""Where rows come from: scikit-learn's tables, samples of them, CSV and Parquet files."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from mlops_for_mle.datasets.base import ReadOnlyDataset
from mlops_for_mle.datasets.csv_text import CsvForm, parse
from mlops_for_mle.datasets.files import opened
from mlops_for_mle.errors import ConfigurationError, SourceError
from mlops_for_mle.paths import project_path


class SklearnTableDataset(ReadOnlyDataset[pd.DataFrame]):
    """A table out of ``sklearn.datasets``, whole or as a random sample of it."""

    def __init__(
        self,
        loader: str,
        sample_rows: int | None = None,
        seed: int | None = None,
        cache: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the table.

        Args:
            loader: A function of ``sklearn.datasets``, such as ``load_wine``.
            sample_rows: Draw this many rows with replacement; None gives the whole table.
            seed: The same seed draws the same rows.
            cache: A folder of the project where the table is kept, because importing scikit-learn
                takes longer than the rest of an ingestion.
            metadata: For Kedro-Viz.
        """
        self._loader = loader
        self._sample_rows = sample_rows
        self._seed = seed
        # Kedro makes only paths of other names absolute, and a notebook is run in its own folder.
        self._cache = project_path() / cache if cache else None
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Features and a column ``target``, under scikit-learn's names."""
        rows = self._load_cached() if self._cache else load_sklearn_table(self._loader)
        return rows if self._sample_rows is None else sample(rows, self._sample_rows, self._seed)

    def _load_cached(self) -> pd.DataFrame:
        name = f"{self._loader}-scikit-learn-{version('scikit-learn')}.parquet"
        path = (self._cache or Path()) / name
        if not path.exists():
            table = load_sklearn_table(self._loader)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{name}.{os.getpid()}")
            table.to_parquet(partial, index=False)
            partial.replace(path)
        from pyarrow.parquet import ParquetFile

        # pandas' reader would import what folders of files need, which takes longer than the rest.
        with ParquetFile(path) as file:
            rows: pd.DataFrame = file.read().to_pandas()
        return rows

    def _describe(self) -> dict[str, Any]:
        return {"loader": self._loader, "sample_rows": self._sample_rows, "seed": self._seed}


class CsvSourceDataset(ReadOnlyDataset[pd.DataFrame]):
    """A CSV file that a person made: read as text, so that validation sees what it says."""

    def __init__(
        self,
        filepath: str,
        encoding: str = "utf-8",
        separator: str = "comma",
        decimal: str = "point",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the file.

        Args:
            filepath: A path or any URL that fsspec opens; the ending ``.gz`` is unpacked.
            encoding: A name that Python knows, such as ``cp949``; UTF-16 with its mark at the
                start is read as it is, too.
            separator: ``comma``, ``semicolon``, ``tab`` or ``pipe``.
            decimal: ``point`` or ``comma``; with it, text such as 1,5 is read as 1.5.
            metadata: For Kedro-Viz.

        Raises:
            ConfigurationError: There is no such encoding, separator or decimal mark.
        """
        self._filepath = filepath
        self._form = CsvForm.checked(encoding, separator, decimal)
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Every column as text; a field that is empty or not there is an empty text.

        Raises:
            SourceError: The file is missing, empty, of another form or no CSV.
        """
        return parse(read_bytes(self._filepath), self._form, self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, **self._form._asdict()}


def read_bytes(where: str) -> bytes:
    """Read a CSV file, unpacked where its name says that it is packed.

    Args:
        where: A path or any URL that fsspec opens.

    Raises:
        SourceError: It is missing, a folder, forbidden or damaged.
    """
    with opened(where, "CSV", compression="infer") as file:
        content: bytes = file.read()
    return content


class ParquetSourceDataset(ReadOnlyDataset[pd.DataFrame]):
    """A Parquet file that another program made."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the file: a path or any URL that fsspec opens."""
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """The file's columns with its types.

        Raises:
            SourceError: The file is missing or no Parquet file.
        """
        import pyarrow as pa
        from pyarrow import parquet

        where = self._filepath
        try:
            with opened(where, "Parquet") as file:
                table = parquet.read_table(file)
        except pa.ArrowInvalid as error:
            reason = str(error).partition("\n")[0]
            raise SourceError(f"{where}: is no Parquet file: {reason}") from None
        frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
        return frame

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def load_sklearn_table(loader: str) -> pd.DataFrame:
    """Load a table by the name of its function in ``sklearn.datasets``.

    Raises:
        ConfigurationError: There is no such function.
    """
    from sklearn import datasets

    allowed = sorted(name for name in dir(datasets) if name.startswith("load_"))
    if loader not in allowed:
        raise ConfigurationError(
            f"loader: expected a table of sklearn.datasets, one of {', '.join(allowed)} "
            f"(found {loader!r})"
        )
    frame: pd.DataFrame = pd.DataFrame(getattr(datasets, loader)(as_frame=True).frame)
    return frame


def sample(rows: pd.DataFrame, row_count: int, seed: int | None) -> pd.DataFrame:
    """Draw rows with replacement, the same for the same seed."""
    return rows.sample(n=row_count, replace=True, random_state=seed).reset_index(drop=True)
