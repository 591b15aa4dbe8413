"""What batch scoring reads and writes: rows of any source, a release, predictions."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from mlops_for_mle.database.copying import (
    arrow_type,
    begin_read_only,
    copy_out,
    primary_key,
    relation,
)
from mlops_for_mle.database.engine import engine_for, execute_raw, literal, quoted, try_lock
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.dataset import ContractDataset
from mlops_for_mle.pipelines.scoring.nodes import Batch, Part, ScoringOptions, Source, location_kind
from mlops_for_mle.pipelines.scoring.outputs import Output, files_of, output_of
from mlops_for_mle.pipelines.scoring.scorer import Scored, Scorer, load_scorer
from mlops_for_mle.releases.deployments import require_deployment

_BUFFER_BYTES = 2**20  # of each column
# By the object ids of Postgres's own types. Numbers and times of other types are read as text,
# since they may be larger than any type of a file.
_AS_TEXT = (1700, 1082, 1114, 1184)
# The number of each part's first row, and the condition of the keys that it has.
_PARTS = """
SELECT number, format(
    ' WHERE %1$I >= %2$L AND (%3$L IS NULL OR %1$I < %3$L) ORDER BY %1$I',
    {name}, start, lead(start) OVER (ORDER BY number)
) FROM (
    SELECT {key} AS start, row_number() OVER (ORDER BY {key}) AS number
    FROM ({query}) AS source_rows
) AS numbered WHERE (number - 1) % {size} = 0 ORDER BY number
"""

_LOGGER = logging.getLogger(__name__)


class _ScoringDataset(ContractDataset):
    """An entry that the parameters block ``scoring`` names."""

    def __init__(self, scoring: dict[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self._options = ScoringOptions.model_validate(scoring)
        self._description |= self._options.model_dump(include={"source", "release", "output"})


class SourceDataset(_ScoringDataset):
    """Names the rows that a batch scores; they are read while they are scored."""

    def load(self) -> Source:
        """Look at the columns; no row is read yet."""
        source, size = self._options.source or self._contract.table, self._options.chunk_rows
        if location_kind(source) == "file":
            return _parquet_source(source, size)
        return _database_source(self._url, source, size)


class ScoringReleaseDataset(_ScoringDataset):
    """The release that is deployed, or the one that the parameters name."""

    def __init__(self, store: str, **options: Any) -> None:
        super().__init__(**options)
        self._store = store

    def load(self) -> Scorer:
        """Load it; a ``ReleaseError`` where it is not in the store, or not whole."""
        contract = self._contract.name
        with self._engine.connect() as connection:
            release = self._options.release or require_deployment(connection, contract).release
        return load_scorer(self._store, contract, release)


class PredictionsDataset(_ScoringDataset):
    """The predictions of a batch, in a table or files, and its rejects beside them."""

    def save(self, data: Batch) -> None:
        """Replace what is there once all rows are scored; after a failure it still is there."""
        from joblib import Parallel, delayed
        from tqdm import tqdm

        options = self._options
        predictions = output_of(options.output, self._url, data.empty[0].schema)
        rejects = output_of(options.rejects, self._url, data.empty[1].schema)
        # Two at once would take each other's parts.
        turn = try_lock(self._url, f"scoring into {predictions.place}")
        if turn is None:
            raise UserError(f"Another run scores into {predictions.place}: wait for its end.")
        with (
            turn,
            predictions.staged(),
            rejects.staged(),
            data.parts as parts,
            options.engine.running(),
        ):
            # All tasks are known from the start, so that workers may come and go.
            tasks = Parallel(batch_size=1, pre_dispatch="all", return_as="generator_unordered")(
                delayed(_write_part)(f"part-{number:05}", data.score, part, [predictions, rejects])
                for number, part in enumerate(parts)
            )
            bar = tqdm(tasks, "scoring", len(parts), unit="part", leave=False, disable=None)
            attempts, scored, rejected = zip(*bar, strict=True)
            # This fails if the server has crashed meanwhile, since what was staged is lost then.
            with self._engine.begin() as connection:
                rejects.publish(attempts, connection)
                predictions.publish(attempts, connection)
                # Else another run could have had its turn meanwhile.
                turn.exec_driver_sql("SELECT")
        _LOGGER.log(
            logging.WARNING if any(rejected) else logging.INFO,
            "scored=%d rejected=%d release=%s: into %s, rejects into %s",
            *(sum(scored), sum(rejected), data.release, options.output, options.rejects),
        )


def _write_part(
    name: str, score: Callable[[Part], Iterator[Scored]], part: Part, outputs: list[Output]
) -> tuple[str, int, int]:
    """Stage a part, in any process; gives its attempt's name and counts of both outputs."""
    attempt, counts = f"{name}-{uuid4().hex}", [0, 0]
    with ExitStack() as stack:
        writes = [stack.enter_context(output.writing(attempt)) for output in outputs]
        for tables in score(part):
            for number, table in enumerate(tables):
                writes[number](table)
                counts[number] += table.num_rows
    return attempt, counts[0], counts[1]


def _parquet_source(path: str, size: int) -> Source:
    """Parquet files, here or at any URL that fsspec opens, in parts by their row groups.

    Small row groups are one part: for each part the whole footer is read, which names all of them.
    """
    from pyarrow.dataset import dataset

    file_system, folder = files_of(path)
    files = dataset(folder, format="parquet", filesystem=file_system)
    parts, first_row = [], 1
    for file in files.get_fragments():
        group_count, row_count = file.metadata.num_row_groups, file.metadata.num_rows
        part_count = max(1, min(group_count, math.ceil(row_count / size)))
        for group_ids in np.array_split(np.arange(group_count), part_count):
            fragment = file.subset(row_group_ids=group_ids.tolist())
            parts.append(Part(first_row, partial(_read_fragment, fragment, size)))
            first_row += sum(group.num_rows for group in fragment.row_groups)
    return Source(files.schema.remove_metadata(), nullcontext(parts))


def _read_fragment(fragment: Any, size: int, columns: list[str]) -> Iterator[pa.Table]:
    from pyarrow.parquet import ParquetFile

    with fragment.open() as opened:
        # Else it would hold all of the row group.
        file = ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        if missing := [name for name in columns if name not in file.schema_arrow.names]:
            raise UserError(f"{fragment.path}: missing column(s) {', '.join(missing)}")
        # A copy in another process has them in any order.
        groups = sorted(group.id for group in fragment.row_groups)
        for batch in file.iter_batches(size, row_groups=groups, columns=columns):
            yield pa.Table.from_batches([batch]).select(columns)


def _database_source(url: str, source: str, size: int) -> Source:
    """A table or query, all of one moment; parts are ranges of a primary key of one column."""
    with engine_for(url).connect() as connection:
        keys: Sequence[str] = ()
        query = source.strip().removesuffix(";")
        if location_kind(source) == "table":
            table = relation(connection, source)
            query = f"SELECT * FROM {table}"  # noqa: S608  (quoted)
            keys = primary_key(connection, table)
        description = begin_read_only(connection, query)
    schema = pa.schema([(column.name, arrow_type(column.type_code)) for column in description])

    @contextmanager
    def parts() -> Iterator[list[Part]]:
        with engine_for(url).connect() as connection:
            begin_read_only(connection, query)
            # This transaction waits idle for the parts, however long they take.
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout TO 0")
            snapshot = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
            ranges: Sequence[Any] = []
            if len(keys) == 1:
                names = {"key": quoted(keys[0]), "name": literal(keys[0])}
                statement = _PARTS.format(query=query, size=size, **names)
                ranges = execute_raw(connection, statement).all()
            read = partial(_read_range, url, query, schema, snapshot)
            yield [Part(first, partial(read, where)) for first, where in ranges or [(1, "")]]

    as_text = frozenset(column.name for column in description if column.type_code in _AS_TEXT)
    return Source(schema, parts(), as_text)


def _read_range(
    url: str, query: str, schema: pa.Schema, snapshot: str, where: str, columns: list[str]
) -> Iterator[pa.Table]:
    names = ", ".join(map(quoted, columns))
    select = f"SELECT {names} FROM ({query}\n) AS source_rows{where}"  # noqa: S608  (quoted)
    with engine_for(url).connect() as connection:
        begin_read_only(connection, query, snapshot)
        types = [schema.field(name).type for name in columns]
        for batch in copy_out(connection, select, types):
            yield pa.Table.from_batches([batch]).rename_columns(columns)
