"""Files whose values have types: Parquet, workbooks of Excel and JSON lines."""

import io
import json
import re
from typing import Any

import pandas as pd

_UNNAMED_INDEX = r"__index_level_\d+__"
# The types of Arrow that are neither numbers nor booleans, text, dates or times of a day.
_NO_VALUE = r".*(binary|list|struct|map|union|time32|time64|duration|interval|extension)"


def read_parquet(content: bytes) -> pd.DataFrame:
    """Read the bytes of a Parquet file with its types, without an index that has no name.

    ``attrs["left_out"]`` says of columns why no contract can hold their values.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(pa.BufferReader(content)).read()
    kept = [name for name in table.column_names if not re.fullmatch(_UNNAMED_INDEX, name)]
    # Whole numbers with gaps would become floats, which do not hold all of them.
    whole = {one: pd.Int64Dtype() for one in {*table.schema.types} if pa.types.is_integer(one)}
    types = {**whole, pa.uint64(): pd.UInt64Dtype()}
    rows: pd.DataFrame = table.select(kept).to_pandas(
        ignore_metadata=True, date_as_object=False, types_mapper=types.get
    )
    rows.attrs["left_out"] = {
        field.name: f"has the type {field.type}, which no contract can hold"
        for field in table.schema
        if re.match(_NO_VALUE, str(field.type))
    }
    return rows


def read_excel(content: bytes, sheet: str | None = None) -> pd.DataFrame:
    """Read the bytes of a workbook; the first row of the sheet has the names.

    Raises:
        ValueError: It is none, or has several sheets of which none or another one was named.
    """
    with pd.ExcelFile(io.BytesIO(content), engine="openpyxl") as workbook:
        sheets = list(map(str, workbook.sheet_names))
        if sheet not in sheets and (sheet is not None or len(sheets) > 1):
            raise ValueError(f"has the sheets {', '.join(sheets)}: name one of them")
        # What pandas takes for a name, an index or a missing value is a value like others.
        values: dict[str, Any] = {"header": None, "dtype": object, "na_filter": False}
        cells = pd.read_excel(workbook, sheet_name=sheet or 0, **values)
    filled = cells.mask(cells == "").dropna(how="all").dropna(how="all", axis="columns")
    if filled.empty:
        raise ValueError("has no rows")
    names = [str(name).strip() for name in filled.iloc[0].fillna("")]
    return filled.iloc[1:].set_axis(names, axis="columns").reset_index(drop=True).apply(_typed)


def read_json(content: bytes) -> pd.DataFrame:
    """Read the bytes of a file with one JSON object a line, or with one array of objects."""
    text = content.decode("utf-8-sig").strip()
    lines = map(json.loads, filter(str.strip, text.split("\n")))
    objects = json.loads(text) if text.startswith("[") else list(lines)
    if not all(isinstance(one, dict) for one in objects):
        raise ValueError("expected a JSON object for each row")
    return pd.DataFrame(objects, dtype=object).apply(_typed)


def _typed(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column of objects with its type: text where kinds are mixed, such as numbers and marks."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    is_nested = column.map(lambda value: isinstance(value, list | dict)).any()
    if kind.startswith("mixed") and kind != "mixed-integer-float" and not is_nested:
        return column.map(str, na_action="ignore")
    # As floats, whole numbers beside gaps would not all be kept.
    is_kept = kind == "integer" and column.isna().any()
    return column if is_kept else column.infer_objects()
