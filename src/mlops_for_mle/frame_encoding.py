"""The encoding of a contract for whole frames; serving uses ``encoding`` alone, without pandas."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.model import DatePart, Feature
from mlops_for_mle.encoding import UNKNOWN_CODE, codes_of, encoding_of


def encode_frame(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Encode a frame that has the contract's columns, as float64 under the matrix's names."""
    encoding = encoding_of(contract)
    if encoding.is_identity:
        return rows.loc[:, list(contract.features)].astype(np.float64)
    columns: dict[str, Any] = {}
    for column in encoding.columns:
        feature = contract.features[column.source]
        columns[column.name] = _encode_series(rows[column.source], feature, column.part)
    return pd.DataFrame(columns, index=rows.index)


def plain_rows(rows: pd.DataFrame, contract: Contract) -> list[list[Any]]:
    """The features of a frame as plain values, row by row."""
    columns = [plain_column(rows[name], one) for name, one in contract.features.items()]
    return [list(row) for row in zip(*columns, strict=True)]


def _encode_series(
    column: "pd.Series[Any]", feature: Feature, part: DatePart | None
) -> npt.NDArray[np.float64]:
    if part is not None:
        times = naive_times(column)
        if part == "days_since_1970":
            days = times.to_numpy().astype("datetime64[D]")
            encoded = days.astype(np.int64).astype(np.float64)
            return np.where(np.isnat(days), np.nan, encoded)
        if part == "day_of_week":
            return np.asarray(times.dt.day_of_week.to_numpy(np.float64) + 1)
        return np.asarray(getattr(times.dt, part).to_numpy(np.float64))
    if feature.type == "category":
        codes = codes_of(feature)
        missing = codes.pop(None)
        known = column.map(codes).to_numpy(np.float64, na_value=np.nan)
        encoded = np.where(np.isnan(known), UNKNOWN_CODE, known)
        return np.where(column.isna().to_numpy(), missing, encoded)
    if feature.type == "boolean":
        return np.asarray(column.astype("boolean").to_numpy(np.float64, na_value=np.nan))
    return np.asarray(pd.to_numeric(column).to_numpy(np.float64, na_value=np.nan))


def naive_times(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Dates or times as UTC and without a zone."""
    times = pd.to_datetime(column)
    return times.dt.tz_convert(None) if times.dt.tz is not None else times


def plain_column(column: "pd.Series[Any]", feature: Feature) -> list[Any]:
    """A feature's column as plain values."""
    present = column.notna().tolist()
    if feature.is_time:
        length = len("2026-01-31") if feature.type == "date" else None
        return [
            one.isoformat()[:length] if here else None
            for one, here in zip(naive_times(column), present, strict=True)
        ]
    plain: Callable[[Any], Any] = float
    if feature.type == "integer" or feature.has_integer_categories:
        plain = int
    elif feature.type == "boolean":
        plain = bool
    elif feature.type == "category":
        plain = str
    return [plain(one) if here else None for one, here in zip(column, present, strict=True)]
