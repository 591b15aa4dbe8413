"""Pure functions of ingestion: rows of a source in, a batch of good and bad rows out."""

import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.columns import check_columns, frame_digest
from mlops_for_mle.errors import SourceError
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions

_MOST_NAMES = 30
_OBSERVED_AT = Feature(type="timestamp", missing="most_frequent")


@dataclass(frozen=True)
class Batch:
    """The rows of one source, sorted into good and bad, to be written in one transaction.

    Attributes:
        source: Where the rows come from.
        content_sha256: Digest of the source's content; with the source it identifies the batch.
        accepted: The rows that fit the contract, with its columns and types.
        rejected: Columns ``row_number`` (1 is the first row of data), ``reason`` and
            ``row_data`` (the row as read, a JSON object).
        remark: What a person is to know of the rejected rows; empty where there are none.
    """

    source: str
    content_sha256: str
    accepted: pd.DataFrame
    rejected: pd.DataFrame
    remark: str = ""


def to_contract(
    source_rows: pd.DataFrame, contract: Contract, ingestion: IngestionOptions
) -> tuple[pd.DataFrame, str]:
    """Give the columns the contract's names and order; leave out columns it does not know.

    Returns:
        The rows, and what identifies them whatever the contract says: the digest of their file
        where the source gives it as ``attrs["sha256"]``, else that of the rows as read.

    Raises:
        SourceError: There are no rows, or a column of the contract is missing or there twice.
    """
    rows = source_rows.rename(columns=ingestion.rename)
    known = [*contract.columns, contract.timestamp]
    twice = sorted({*known} & {*rows.columns[rows.columns.duplicated()]})
    missing = [name for name in contract.columns if name not in rows.columns]
    found = ", ".join(map(repr, source_rows.columns[:_MOST_NAMES])) or "none"
    for fault in (
        twice and f"column(s) {', '.join(twice)} twice",
        missing and f"missing column(s) {', '.join(missing)}; found {found}",
        rows.empty and "has no rows",
    ):
        if fault:
            raise SourceError(f"Source {ingestion.source}: {fault}")
    chosen = rows.loc[:, [name for name in known if name in rows.columns]]
    sha256 = source_rows.attrs.get("sha256") or frame_digest(source_rows)
    return chosen.reset_index(drop=True), sha256


def validate(
    contract_rows: pd.DataFrame,
    content_sha256: str,
    contract: Contract,
    ingestion: IngestionOptions,
) -> Batch:
    """Sort rows into those that fit the contract and those that do not, with the reasons."""
    features = dict(contract.columns)
    if contract.timestamp in contract_rows.columns:
        features[contract.timestamp] = _OBSERVED_AT
    accepted, faults = check_columns(
        contract_rows,
        features,
        ingestion.date_formats,
        missing_marks=ingestion.missing_marks,
    )
    remark = "".join(f"such as row {row + 1}: {faults[row]}" for row in list(faults)[:1])
    row_count = len(contract_rows)
    if len(faults) > ingestion.maximum_rejected_fraction * row_count:
        share = f"{len(faults)} of {row_count} rows of this batch are bad, so all were held back"
        remark = f"{share}, {remark}"
        faults = {row: faults.get(row, f"batch: {share}") for row in range(row_count)}
        accepted = accepted.head(0)
    rejected = {
        "row_number": [row + 1 for row in faults],
        "reason": list(faults.values()),
        "row_data": _as_json(contract_rows.iloc[list(faults)]),
    }
    return Batch(ingestion.source, content_sha256, accepted, pd.DataFrame(rejected), remark)


def _as_json(rows: pd.DataFrame) -> list[str]:
    """Each row as a JSON object that Postgres can hold."""
    present = rows.astype(object).where(rows.notna(), None)
    return [
        json.dumps(dict(zip(rows.columns, map(_plain, row), strict=True)), ensure_ascii=False)
        for row in present.itertuples(index=False, name=None)
    ]


def _plain(value: Any) -> Any:
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if value is None or (isinstance(value, int | float) and is_finite):
        return value
    # The JSON of Postgres knows neither infinity nor NUL.
    return str(value).replace("\x00", "\ufffd")
