"""The same row gives the same model input, whichever way it comes.

Ways are the API's three protocols, and rows of CSV, Parquet and JSON files and of a database as
ingestion and batch scoring read them.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.columns import check_columns, encode_rows
from mlops_for_mle.contract.model import NUMBER_TYPES
from mlops_for_mle.contract.rules import read_time
from mlops_for_mle.pipelines.data_ingestion.csv_text import CsvForm
from mlops_for_mle.pipelines.data_ingestion.sources import read_csv, read_json, read_parquet
from mlops_for_mle.serving import mlflow, oip
from mlops_for_mle.serving.codec import Codec, Form, Rows
from mlops_for_mle.serving.errors import ProblemError
from tests.contract.strategies import allowed_values, contracts
from tests.releases import IRIS_CONTRACT
from tests.serving.test_codec import codec

Table = dict[str, list[Any]]


@st.composite
def values(draw: st.DrawFn, feature: Feature) -> Any:
    """A plain value that is allowed, in any form that JSON may have for it."""
    value = draw(allowed_values(feature))
    if value is None:
        return None
    if feature.type == "category" and feature.unknown == "other" and draw(st.booleans()):
        words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9)
        numbers = st.integers(-(10**9), 10**9)
        found = draw(numbers if feature.has_integer_categories else words)
        return found if isinstance(found, int) else (found.strip() or value)
    if feature.type == "integer" and draw(st.booleans()):
        return float(value)
    if feature.type == "timestamp":
        fraction = draw(st.sampled_from(["", ".5", ".123456", ".1234567"]))
        offset = draw(st.sampled_from(["", "Z", "+09:00", "-0330", "+00"]))
        return f"{value}{fraction}{offset}" if "0002" < value < "9998" else value
    return value


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def split(reader: Codec, table: Table) -> Rows:
    body = {"columns": list(table), "data": list(zip(*table.values(), strict=True))}
    return mlflow.read_body(reader, json.dumps({"dataframe_split": body}).encode())


def records(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def written(table: Table) -> bytes:
    """As CSV."""
    # A line without any value is none.
    text, table = io.StringIO(), {**table, "a row": ["x"] * len(next(iter(table.values())))}
    rows = zip(*table.values(), strict=True)
    csv.writer(text).writerows([table.keys(), *([as_text(one) for one in row] for row in rows)])
    return text.getvalue().encode()


def tensors(reader: Codec, table: Table) -> Rows:
    kinds = map(oip.datatype_of, reader.features.values())
    inputs = [
        {"name": name, "shape": [len(found)], "datatype": kind, "data": found}
        for (name, found), kind in zip(table.items(), kinds, strict=True)
    ]
    parsed = oip._BODY.decode(json.dumps({"inputs": inputs}).encode())
    return oip._rows(reader, parsed.inputs, memoryview(b""))


API: dict[str, Callable[[Codec, Table], Rows]] = {
    "predict, columns": lambda reader, table: reader.read(json.dumps({"columns": table}).encode()),
    "predict, objects": lambda reader, table: reader.read(json.dumps(records(table)).encode()),
    "invocations": split,
    "invocations, CSV": lambda reader, table: mlflow.read_csv(reader, written(table)),
    "v2": tensors,
}


# How a column of a type is written into a file, where that is not as JSON has it.
ARROW: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "decimal": (lambda one: Decimal(repr(one)), None),
    "date": (read_time, pa.timestamp("us")),
    "timestamp": (read_time, pa.timestamp("us")),
    "integer": (int, pa.int64()),
}


def arrow(values: list[Any], feature: Feature) -> pa.Array:
    """A column with the type that a table or a file has."""
    if feature.type in ARROW:
        cast, kind = ARROW[feature.type]
        # Decimals may have more digits than such a column.
        with suppress(pa.ArrowInvalid):
            return pa.array([one if one is None else cast(one) for one in values], kind)
    return pa.array(values)


def parquet(table: Table, contract: Contract) -> pd.DataFrame:
    columns = {name: arrow(table[name], one) for name, one in contract.features.items()}
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return read_parquet(file.getvalue())


FILES: dict[str, Callable[[Table, Contract], pd.DataFrame]] = {
    "CSV": lambda table, _: read_csv(written(table), CsvForm()),
    "JSON lines": lambda table, _: read_json("\n".join(map(json.dumps, records(table))).encode()),
    "Parquet": parquet,
    "database": lambda table, _: pd.DataFrame(
        {name: [as_text(one) or None for one in found] for name, found in table.items()}
    ),
}


@given(st.data())
def test_a_row_that_is_allowed_is_the_same_input_by_every_way(data: st.DataObject) -> None:
    contract = Contract.model_validate(data.draw(contracts()))
    # Blanks around the names of a file are dropped.
    assume(all(name == name.strip() for name in contract.features))
    size = data.draw(st.integers(1, 4))
    table: Table = {
        name: data.draw(st.lists(values(one), min_size=size, max_size=size))
        for name, one in contract.features.items()
    }
    reader = codec(contract, "float64")

    found = {}
    for name, read in API.items():
        rows = read(reader, table)
        found[name] = reader.matrix(rows)
        lists = json.loads(rows.text)
        if rows.form is Form.COLUMNS:
            assert lists["columns"] == table, name
        else:
            assert lists == records(table), name
    for name, read in FILES.items():
        rows, faults = check_columns(read(table, contract), contract.features)
        assert faults == {}, (name, faults)
        found[name] = encode_rows(rows, contract)

    for name, matrix in found.items():
        np.testing.assert_array_equal(matrix, found["predict, columns"], err_msg=name)


def one_row(reader: Codec, table: Table) -> Rows:
    return reader.read(json.dumps(*records(table)).encode())


@pytest.mark.parametrize("read", [*API.values(), one_row], ids=[*API, "one row"])
def test_a_name_in_another_form_of_unicode_is_the_same_feature(read: Any) -> None:
    features = {"길이": {}, "à la carte": {}}
    contract = Contract.model_validate({**IRIS_CONTRACT.model_dump(), "features": features})
    table: Table = {unicodedata.normalize("NFD", name): [2.5] for name in features}
    reader = codec(contract, "float64")

    rows = read(reader, table)

    assert reader.matrix(rows).tolist() == [[2.5, 2.5]]
    # Monitoring looks for what was logged under the names of the contract.
    logged = rows.text.decode()
    assert all(f'"{name}":' in logged for name in features)


WRONG = {
    "float": [1e12, "x", "1_0"],
    "integer": [0.5, 2**53, "x", "1_0"],
    "decimal": [1e12, "x"],
    "boolean": ["maybe", 2],
    "category": ["none of them"],
    "date": ["2026-02-30", "2026-01-31T10:00:00", "10000-01-01", "0044-03-15 BC", "x"],
    "timestamp": ["2026-01-31T25:00:00", "infinity", "x"],
}


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, found in WRONG.items() for value in found]
)
def test_what_one_way_refuses_every_way_refuses(kind: Any, value: Any) -> None:
    keys: dict[str, Any] = {"type": kind}
    keys |= {"minimum": 0, "maximum": 1e9} if kind in NUMBER_TYPES else {}
    keys |= {"categories": ("a", "b")} if kind == "category" else {}
    contract = Contract.model_validate(
        {**IRIS_CONTRACT.model_dump(), "features": {"x": keys, "other": {}}}
    )
    table: Table = {"x": [value], "other": [1.5]}
    reader = codec(contract, "float64")

    for name, read in API.items():
        with pytest.raises(ProblemError):
            pytest.fail(f"{name}: {read(reader, table)}")
    for name in ("CSV", "JSON lines", "database"):
        _, faults = check_columns(FILES[name](table, contract), contract.features)
        assert faults[0].startswith("x: "), name
