"""Pure functions of ingestion: rows of a source in, a batch of good and bad rows out."""

from dataclasses import dataclass

import pandas as pd
from pydantic import Field

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.columns import as_json, check_columns, frame_digest, is_missing
from mlops_for_mle.contract.model import Name, normalised
from mlops_for_mle.contract.notation import Notation
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.data_ingestion.csv_text import Unread

_OBSERVED_AT = Feature(type="timestamp", missing="most_frequent")


class IngestionOptions(Notation):
    """How rows of a source become rows of the contract.

    Attributes:
        rename: The contract's column name for each column that is called otherwise in the source.
        maximum_rejected_fraction: When more rows than this share are bad, nothing is accepted:
            all rows go to the rejects, because the source rather than a row is wrong.
        drop_missing_target: A row without a target does not count as bad: it goes to the rejects
            as others do, but a file may be mostly of such rows, and one to train on may have some.
    """

    source: str = Field(min_length=1)
    rename: dict[Name, Name] = Field(default_factory=dict)
    maximum_rejected_fraction: float = Field(default=0.5, ge=0, le=1)
    drop_missing_target: bool = False


@dataclass(frozen=True)
class Batch:
    """The rows of one source, sorted into good and bad, to be written in one transaction.

    Attributes:
        content_sha256: Digest of the source's content; with the source it identifies the batch.
        rejected: Columns ``row_number`` (1 is the first row of data), ``reason`` and
            ``row_data`` (the row as read, a JSON object; of one that cannot be read its ``line``).
        remark: What is wrong with bad rows; rows that ``drop_missing_target`` drops are not bad.
    """

    source: str
    content_sha256: str
    accepted: pd.DataFrame
    rejected: pd.DataFrame
    remark: str = ""


def to_contract(
    source_rows: pd.DataFrame, contract: Contract, ingestion: IngestionOptions
) -> tuple[pd.DataFrame, str, dict[int, Unread]]:
    """Give the columns the contract's names and order; leave out columns it does not know.

    Returns:
        The rows, of which the first has index 0; the digest of their file where the source gives
        it as ``attrs["sha256"]``, else that of the rows as read; and, by its number, each row that
        could not even be read, where the source gives them as ``attrs["unread"]``.
    """
    rows = source_rows.rename(columns=lambda name: normalised(str(name)))
    rows = rows.rename(columns=ingestion.rename)
    names = [*contract.columns, contract.timestamp]
    duplicates = sorted({*names} & {*rows.columns[rows.columns.duplicated()]})
    missing = [name for name in contract.columns if name not in rows.columns]
    if duplicates:
        raise UserError(f"Source {ingestion.source}: column(s) {', '.join(duplicates)} twice")
    if missing:
        listed = ", ".join(map(repr, source_rows.columns[:30])) or "none"
        problem = f"missing column(s) {', '.join(missing)}; found {listed}"
        raise UserError(f"Source {ingestion.source}: {problem}")
    if rows.empty:
        raise UserError(f"Source {ingestion.source}: has no rows")
    chosen = rows[[name for name in names if name in rows.columns]]
    sha256 = source_rows.attrs.get("sha256") or frame_digest(source_rows)
    unread: dict[int, Unread] = source_rows.attrs.get("unread", {})
    chosen.attrs = {}
    return chosen if unread else chosen.reset_index(drop=True), sha256, unread


def validate(
    contract_rows: pd.DataFrame,
    content_sha256: str,
    unread: dict[int, Unread],
    contract: Contract,
    ingestion: IngestionOptions,
) -> Batch:
    """Sort rows into those that fit the contract and those that do not, with the reasons."""
    features = dict(contract.columns)
    if contract.timestamp in contract_rows.columns:
        features[contract.timestamp] = _OBSERVED_AT
    accepted, faults = check_columns(contract_rows, features, ingestion)
    numbers, row_count = contract_rows.index + 1, len(contract_rows) + len(unread)
    reasons = {int(numbers[position]): reason for position, reason in faults.items()}
    reasons |= {number: row.reason for number, row in unread.items()}
    target, dropped = contract.target, set[int]()
    if ingestion.drop_missing_target:
        marks = ingestion.missing_marks.get(target.column, ())
        dropped = {*numbers[is_missing(contract_rows[target.column], marks, target.feature)]}
    bad, judged = sorted(reasons.keys() - dropped), row_count - len(dropped)
    remark = f"such as row {bad[0]}: {reasons[bad[0]]}" if bad else ""
    if len(bad) > ingestion.maximum_rejected_fraction * judged:
        summary = f"{len(bad)} of {judged} rows of this batch are bad, so all were held back"
        remark = f"{summary}, {remark}"
        reasons = dict.fromkeys(range(1, row_count + 1), f"batch: {summary}") | reasons
        accepted = accepted.head(0)
    refused = contract_rows[numbers.isin(list(reasons))]
    as_read = refused.astype(object).where(refused.notna(), None).to_dict("records")
    row_data = dict(zip(refused.index + 1, as_read, strict=True))
    row_data |= {number: {"line": row.text} for number, row in unread.items()}
    rejected = pd.DataFrame(
        [(number, reasons[number], as_json(row_data[number])) for number in sorted(reasons)],
        columns=["row_number", "reason", "row_data"],
    )
    return Batch(ingestion.source, content_sha256, accepted, rejected, remark)
