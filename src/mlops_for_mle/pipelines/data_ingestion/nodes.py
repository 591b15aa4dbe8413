"""Pure functions of ingestion: rows of a source in, a batch of good and bad rows out."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.column_values import (
    NO_TIME,
    blank,
    expected,
    read_discrete,
    read_feature,
    read_numbers,
    read_times,
    with_contract_types,
)
from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import SourceError
from mlops_for_mle.frames import digest
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
from mlops_for_mle.records import HELD_BACK, Batch

_MOST_NAMES = 20
_LONGEST_NAME = 80


def standardise_columns(
    source_rows: pd.DataFrame, contract: Contract, ingestion: IngestionOptions
) -> pd.DataFrame:
    """Give the columns the contract's names and order; leave out columns it does not know.

    Raises:
        SourceError: There are no rows, or a column of the contract is missing or there twice.
    """
    rows = source_rows.rename(columns=ingestion.rename)
    known = {*contract.columns, contract.timestamp}
    twice = sorted(known & set(rows.columns[rows.columns.duplicated()]))
    if twice:
        raise SourceError(f"Source {ingestion.source}: column(s) {', '.join(twice)} twice")
    missing = [name for name in contract.columns if name not in rows.columns]
    if missing:
        raise SourceError(
            f"Source {ingestion.source}: missing column(s) {', '.join(missing)}; "
            f"found {_listed(source_rows.columns)}"
        )
    if rows.empty:
        raise SourceError(f"Source {ingestion.source}: has no rows")
    optional = [contract.timestamp] if contract.timestamp in rows.columns else []
    return rows.loc[:, [*contract.columns, *optional]].reset_index(drop=True)


def sort_rows(rows: pd.DataFrame, contract: Contract, ingestion: IngestionOptions) -> Batch:
    """Sort rows into those that fit the contract and those that do not, with the reasons.

    Args:
        rows: Columns of the contract as read, text or typed.
        contract: What each column may hold.
        ingestion: Names the source and says how many bad rows are too many.
    """
    typed, unreadable = read_values(rows, contract, ingestion.date_formats)
    reasons = [*unreadable, *find_violations(typed, contract)]
    by_row: dict[int, list[str]] = {}
    for row, reason in reasons:
        by_row.setdefault(row, []).append(reason)
    too_many = len(by_row) > ingestion.maximum_rejected_fraction * len(rows)
    if too_many:
        share = f"{len(by_row)} of {len(rows)} rows of this batch are bad"
        for row in range(len(rows)):
            by_row.setdefault(row, [f"{HELD_BACK}{share}, so all were held back"])
    bad = sorted(by_row)
    accepted = typed.drop(index=typed.index[bad]).reset_index(drop=True)
    return Batch(
        source=ingestion.source,
        content_sha256=digest(rows),
        accepted=with_contract_types(accepted, contract),
        rejected=pd.DataFrame(
            {
                "row_number": [row + 1 for row in bad],
                "reason": ["; ".join(by_row[row]) for row in bad],
                "row_data": [_as_read(rows.iloc[row]) for row in bad],
            }
        ),
    )


def read_values(
    rows: pd.DataFrame, contract: Contract, date_formats: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """Read the contract's types from what may be text.

    Returns:
        The rows with numbers as float64 and times as datetime64, missing where there is none
        or none could be read; and for each value that could not be read its row and reason.
    """
    typed: dict[str, pd.Series[Any]] = {}
    problems: list[tuple[int, str]] = []
    for name in rows.columns:
        raw = rows[name]
        form = (date_formats or {}).get(name)
        is_blank = blank(raw)
        feature = contract.features.get(name)
        if feature is not None:
            parsed, wanted = read_feature(raw, feature, form), expected(feature, form)
        elif name == contract.timestamp:
            parsed, wanted = read_times(raw.mask(is_blank), form), NO_TIME
        elif contract.target.has_text_classes:
            parsed, wanted = read_discrete(raw.mask(is_blank), has_integers=False), "no text"
        else:
            parsed, wanted = read_numbers(raw.mask(is_blank)), "not a number"
        typed[name] = parsed
        unread = parsed.isna() & ~is_blank
        problems += [(int(row), f"{name}: {wanted}: {raw[row]!r}") for row in unread[unread].index]
        may_be_missing = name == contract.timestamp or (feature is not None and feature.is_optional)
        if not may_be_missing:
            problems += [(int(row), f"{name}: is missing") for row in is_blank[is_blank].index]
    return pd.DataFrame(typed, index=rows.index), problems


def find_violations(typed: pd.DataFrame, contract: Contract) -> list[tuple[int, str]]:
    """Check values against the contract's types, ranges and classes.

    Returns:
        Row and reason of each violation; missing values are left to ``read_values``.
    """
    from mlops_for_mle.validation import SchemaErrors, contract_schema

    columns = typed.loc[:, list(contract.columns)]
    try:
        contract_schema(contract, nullable=True).validate(columns, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        return [
            (int(index), f"{column}: {check}, found {_shown(value)}")
            for index, column, check, value in zip(
                cases["index"], cases["column"], cases["check"], cases["failure_case"], strict=True
            )
        ]
    return []


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _as_read(row: "pd.Series[Any]") -> str:
    values = {str(name): _plain(value) for name, value in row.items()}
    return json.dumps(values, default=str, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """A value that JSON can hold: infinity as text, missing as null."""
    if pd.isna(value):
        return None
    plain = value.item() if isinstance(value, np.generic) else value
    return str(plain) if isinstance(plain, float) and not np.isfinite(plain) else plain


def _listed(names: Iterable[object]) -> str:
    """Names for a person, in quotes, since blanks count; not more than can be read."""
    found = [repr(str(name)[:_LONGEST_NAME]) for name in names]
    more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    return f"{', '.join(found[:_MOST_NAMES])}{more}" if found else "none"
