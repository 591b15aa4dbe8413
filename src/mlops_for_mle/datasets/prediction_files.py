"""Predictions in a Parquet file, with the rejects in another one beside it."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import fsspec
import pandas as pd
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from pyarrow import parquet

from mlops_for_mle.errors import SourceError, UserError
from mlops_for_mle.foreign_errors import usable
from mlops_for_mle.scoring.batch_options import rejects_beside
from mlops_for_mle.scoring.batches import REJECT_SCHEMA, ScoredChunk


class PredictionFiles:
    """Two Parquet files, here or at any URL that fsspec opens."""

    def __init__(self, path: str) -> None:
        """Name the file of predictions; its folder is made when it is written.

        Raises:
            UserError: Nothing that is installed opens such a URL.
        """
        self._path = path
        with usable(path):
            self._file_system, self._target = fsspec.core.url_to_fs(path)

    @contextmanager
    def writing(self, schema: pa.Schema) -> Iterator[Callable[[ScoredChunk], None]]:
        """Give a function that writes chunks; both files appear when the block ends well.

        Raises:
            UserError: They cannot be written.
        """
        rejects = rejects_beside(self._target)
        try:
            with ExitStack() as stack:
                # What is complete elsewhere is moved or uploaded as a whole.
                if isinstance(self._file_system, LocalFileSystem):
                    folder = Path(self._target).parent
                    folder.mkdir(parents=True, exist_ok=True)
                else:
                    # Lack of credentials is told now, not when all rows are scored. Who may only
                    # write is refused an answer, and goes on.
                    with usable(self._path), suppress(OSError):
                        self._file_system.exists(self._target)
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                partials = [folder / f".{uuid4().hex}.partial" for _ in range(2)]
                for partial in partials:
                    stack.callback(partial.unlink, missing_ok=True)
                with (
                    parquet.ParquetWriter(partials[0], schema, compression="zstd") as predictions,
                    parquet.ParquetWriter(partials[1], REJECT_SCHEMA) as rejected,
                ):

                    def write(chunk: ScoredChunk) -> None:
                        predictions.write_table(chunk.predictions)
                        rejected.write_table(chunk.rejected)

                    yield write
                for partial, target in zip(
                    reversed(partials), (rejects, self._target), strict=True
                ):
                    self._publish(partial, target)
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error}") from error

    def read(self, row_limit: int | None = None) -> pd.DataFrame:
        """The predictions, or the first of them.

        Raises:
            SourceError: They were not written yet.
        """
        if not self.exists():
            raise SourceError(
                f"{self._path} is not there: run `kedro run --pipeline scoring` first"
            )
        with usable(self._path), self._file_system.open(self._target, "rb") as file:
            opened = parquet.ParquetFile(file)
            if row_limit is None:
                return pd.DataFrame(opened.read().to_pandas())
            batches = opened.iter_batches(batch_size=row_limit)
            first = next(batches, pa.RecordBatch.from_pylist([], opened.schema_arrow))
            return pd.DataFrame(first.to_pandas())

    def exists(self) -> bool:
        """Whether the file of predictions is there.

        Raises:
            UserError: Its place cannot be used.
        """
        with usable(self._path):
            return bool(self._file_system.exists(self._target))

    def _publish(self, partial: Path, target: str) -> None:
        if isinstance(self._file_system, LocalFileSystem):
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(target)
        else:
            with usable(self._path):
                self._file_system.put_file(str(partial), target)
