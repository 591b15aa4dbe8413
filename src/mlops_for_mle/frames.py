"""Digests and small conversions of data frames, without any input or output."""

import hashlib

import numpy as np
import pandas as pd


def digest(frame: pd.DataFrame) -> str:
    """SHA-256 over a frame's column names, types and values, in hexadecimal.

    Row order counts, the index does not. Missing values in text columns count as such.
    """
    result = hashlib.sha256()
    for name in frame.columns:
        column = frame[name]
        values = column.to_numpy()
        is_number = values.dtype.kind in "biuf"
        result.update(f"{name}\x00{values.dtype if is_number else 'text'}\x00".encode())
        if is_number:
            result.update(np.ascontiguousarray(values).tobytes())
            continue
        for value, missing in zip(column, column.isna(), strict=True):
            result.update(b"\x01" if missing else b"\x02" + str(value).encode() + b"\x00")
    return result.hexdigest()


def row_groups(frame: pd.DataFrame) -> "pd.Series[int]":
    """Number the distinct rows: equal rows have equal numbers, in order of appearance."""
    return frame.groupby(list(frame.columns), sort=False, dropna=False).ngroup()
