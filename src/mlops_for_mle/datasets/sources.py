"""Where rows come from: scikit-learn's tables, samples of them, and CSV files."""

from typing import Any

import pandas as pd
from kedro.io import AbstractDataset
from kedro_datasets.pandas import CSVDataset

from mlops_for_mle.errors import ConfigurationError, SourceError


class SklearnTableDataset(AbstractDataset[None, pd.DataFrame]):
    """A table out of ``sklearn.datasets``, whole or as a random sample of it."""

    def __init__(
        self,
        loader: str,
        sample_rows: int | None = None,
        seed: int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the table.

        Args:
            loader: A function of ``sklearn.datasets``, such as ``load_iris``.
            sample_rows: Draw this many rows with replacement; None gives the whole table.
            seed: The same seed draws the same rows.
            metadata: For Kedro-Viz.
        """
        self._loader = loader
        self._sample_rows = sample_rows
        self._seed = seed
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Features and a column ``target``, under scikit-learn's names."""
        rows = load_sklearn_table(self._loader)
        return rows if self._sample_rows is None else sample(rows, self._sample_rows, self._seed)

    def save(self, data: None) -> None:
        """Not possible.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("scikit-learn's tables are read-only")

    def _describe(self) -> dict[str, Any]:
        return {"loader": self._loader, "sample_rows": self._sample_rows, "seed": self._seed}


class CsvSourceDataset(CSVDataset):  # type: ignore[misc]
    """A CSV file that a person made: read as text, so that validation sees what it says."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the file: a path or any URL that fsspec opens."""
        super().__init__(
            filepath=filepath,
            load_args={"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"},
            metadata=metadata,
        )
        self._path_as_given = filepath

    def load(self) -> pd.DataFrame:
        """Every column as text; an empty field is an empty text.

        Raises:
            SourceError: The file is missing, empty, no UTF-8 text or no CSV.
        """
        where = self._path_as_given
        try:
            rows = super().load()
        except FileNotFoundError:
            raise SourceError(f"{where}: there is no such file") from None
        except IsADirectoryError:
            raise SourceError(f"{where}: is a folder, expected a CSV file") from None
        except pd.errors.EmptyDataError:
            raise SourceError(f"{where}: is empty, expected CSV with a header line") from None
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{where}: is no UTF-8 text (byte {error.start}), expected a CSV file"
            ) from None
        except pd.errors.ParserError as error:
            reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
            raise SourceError(f"{where}: is no well-formed CSV file: {reason}") from None
        if any("\x00" in str(name) for name in rows.columns) or _holds_nul(rows):
            raise SourceError(f"{where}: holds NUL bytes, expected a CSV file of text")
        return rows


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


def _holds_nul(rows: pd.DataFrame) -> bool:
    return any(rows[name].str.contains("\x00", regex=False).any() for name in rows.columns)
