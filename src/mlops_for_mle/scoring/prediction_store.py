"""Writes scored rows into the contract's table of predictions, each row of a source once."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor  # noqa: N812  (a class of C code)
from sqlalchemy import URL

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract_tables import prediction_table, prediction_table_name
from mlops_for_mle.scoring.row_json import row_as_json
from mlops_for_mle.scoring.row_scorer import ScoredRows

_DIALECT = URL.create("postgresql+psycopg2").get_dialect()()

_INSERT = """
INSERT INTO {table}
    (timestamp, {prediction}, source, source_id, row_key, model_version, release, scored_at)
SELECT given.at::timestamp, given.prediction, %(source)s, given.source_id, given.row_key,
       %(version)s, %(release)s, clock_timestamp()
FROM unnest(%(times)s::text[], %(predictions)s::{type}[], %(ids)s::bigint[], %(keys)s::bigint[])
     AS given(at, prediction, source_id, row_key)
ON CONFLICT (source, source_id) DO {on_conflict}
"""
_REPLACE = """
UPDATE SET timestamp = excluded.timestamp, {prediction} = excluded.{prediction},
           model_version = excluded.model_version, release = excluded.release,
           scored_at = excluded.scored_at
"""
_REJECT = """
INSERT INTO scoring_rejects
    (contract, source, source_id, release, model_version, reason, row_data)
SELECT %(contract)s, %(source)s, given.source_id, %(release)s, %(version)s, given.reason,
       given.row_data::jsonb
FROM unnest(%(ids)s::bigint[], %(reasons)s::text[], %(rows)s::text[])
     AS given(source_id, reason, row_data)
ON CONFLICT (contract, source, source_id) DO UPDATE
SET release = excluded.release, model_version = excluded.model_version,
    reason = excluded.reason, row_data = excluded.row_data, created_at = now()
"""


class PredictionStore:
    """The sink of one source: its predictions and its rejects, in the caller's transaction.

    A row is known by its source and its number there: for a table its name and the row's key,
    for a topic for example ``topic/partition`` and the offset.
    """

    def __init__(self, contract: Contract, replace: bool = False) -> None:
        """Prepare the statements.

        Args:
            contract: Names the table and its column of predictions.
            replace: What happens to a row that has a prediction: whether the new one replaces it
                or is dropped.
        """
        prediction = identifier(contract.target.response_name)
        self._as_array = text_array if contract.target.has_text_classes else number_array
        column = prediction_table(contract).columns[contract.target.response_name]
        on_conflict = sql.SQL(_REPLACE).format(prediction=prediction)
        self._contract = contract.name
        self._insert = sql.SQL(_INSERT).format(
            table=identifier(prediction_table_name(contract)),
            prediction=prediction,
            type=sql.SQL(column.type.compile(_DIALECT)),
            on_conflict=on_conflict if replace else sql.SQL("NOTHING"),
        )

    def write_predictions(
        self,
        cursor: Cursor,
        source: str,
        source_ids: Sequence[int],
        times: Sequence[str | None],
        scored: ScoredRows,
        row_keys: Sequence[int | None] | None = None,
    ) -> int:
        """Write the predictions for some rows; the caller commits.

        Args:
            cursor: Of the transaction in which the rows are also taken from their source.
            source: Where they come from.
            source_ids: The number of each row at its source, none twice.
            times: When each row was observed, as text that Postgres reads.
            scored: What the scorer made of these rows.
            row_keys: The key that each row has in the table of observations, if any; left out
                where its number at the source is that key.

        Returns:
            How many rows of the table were written.
        """
        if not len(scored):
            return 0
        positions = scored.positions.tolist()
        keys = source_ids if row_keys is None else row_keys
        cursor.execute(
            self._insert,
            {
                "source": source,
                "version": scored.manifest.model.version,
                "release": scored.manifest.release,
                "times": text_array([times[position] for position in positions]),
                "predictions": self._as_array(scored.answers),
                "ids": number_array([source_ids[position] for position in positions]),
                "keys": number_array([keys[position] for position in positions]),
            },
        )
        return cursor.rowcount

    def write_rejects(
        self,
        cursor: Cursor,
        source: str,
        source_ids: Sequence[int],
        rows: Sequence[Mapping[str, Any]],
        scored: ScoredRows,
    ) -> None:
        """Write which of some rows were not scored, and why; the caller commits.

        Args:
            cursor: As in ``write_predictions``.
            source: Where the rows come from.
            source_ids: The number of each row at its source, none twice.
            rows: The rows as they were given to the scorer.
            scored: What the scorer made of these rows.
        """
        if not scored.rejected:
            return
        cursor.execute(
            _REJECT,
            {
                "contract": self._contract,
                "source": source,
                "version": scored.manifest.model.version,
                "release": scored.manifest.release,
                "ids": number_array([source_ids[one.position] for one in scored.rejected]),
                "reasons": text_array([one.reason for one in scored.rejected]),
                "rows": text_array([row_as_json(rows[one.position]) for one in scored.rejected]),
            },
        )


def identifier(name: str) -> sql.Identifier:
    """A quoted name for a statement that is executed with parameters, where % has a meaning."""
    return sql.Identifier(name.replace("%", "%%"))


def number_array(values: Sequence[float | None]) -> str:
    """The text of a Postgres array: one constant, where a list is an expression for each value."""
    return f"{{{str(values)[1:-1].replace('None', 'NULL')}}}"


def text_array(values: Sequence[str | None]) -> str:
    """The text of a Postgres array of texts."""
    return f"{{{','.join(map(_quoted, values))}}}"


def _quoted(value: str | None) -> str:
    if value is None:
        return "NULL"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
