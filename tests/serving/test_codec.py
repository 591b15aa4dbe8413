"""Rows of every contract: what is read, what is refused, and how it is explained."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.rules import fault
from mlops_for_mle.serving import documents, mlflow
from mlops_for_mle.serving.codec import MAX_ROWS, Codec
from mlops_for_mle.serving.errors import ProblemError
from mlops_for_mle.serving.request import Request, current_request
from tests.contract.strategies import any_values, contracts
from tests.mixed import MIXED_CONTRACT, MIXED_ROW
from tests.releases import IRIS_CONTRACT, iris_release
from tests.serving.conftest import IRIS_ROW, peak_of

MANIFEST = iris_release(1).manifest


def codec(contract: Contract, precision: str = "float32") -> Codec:
    changes = {"contract": contract, "precision": precision}
    return Codec(MANIFEST.model_copy(update=changes))


NAMES = list(IRIS_ROW)
IRIS = codec(IRIS_CONTRACT)


def matrix(reader: Codec, body: bytes) -> list[list[float]]:
    return reader.matrix(reader.read(body)).tolist()


def refusal(reader: Codec, body: bytes) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        reader.read(body)
    assert caught.value.status == 422
    return caught.value


def columns(**changes: Any) -> bytes:
    lists = {name: [value] * 3 for name, value in IRIS_ROW.items()}
    return json.dumps({"columns": lists | changes}).encode()


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b"{", ["Input data was truncated"]),
        (b"[" * 100_000, ["maximum recursion depth"]),
        (b'{"sepal_length": ' * 50_000, ["is wrong, or longer than"]),
        (b'{"sepal_length\xff": 1}', ["Invalid UTF-8 encoded string"]),
        (json.dumps(IRIS_ROW).encode("utf-16"), ["JSON is malformed"]),
        (b"[3]", ["[0] is no object"]),
        (b"3", ["is no object"]),
        (b'{"sepal_length": -Infinity}', ["JSON is malformed"]),
        (b'{"sepal_length": 1e999}', ["Number out of range"]),
        (b'"\\ud800 and more"', ["JSON is malformed"]),
        (
            b'{"sepal_length": "a", "sepal_width": 3, "petal": 1}',
            [
                "sepal_length is no number",
                "petal_length is missing",
                "petal_width is missing",
                "petal is an unknown field",
            ],
        ),
        (columns(petal_width=[1]), ["columns differ in length"]),
        (columns(petal_width=1), ["columns.petal_width is no list"]),
        (columns(other=[1, 2, 3]), ["columns.other is an unknown field"]),
        (b'{"columns": {"petal_width": [1]}}', [f"columns.{one} is missing" for one in NAMES[:3]]),
        (b'{"columns": [1]}', [*(f"{one} is missing" for one in NAMES), "columns is an unknown"]),
        (columns(**{name: [1] * (MAX_ROWS + 1) for name in NAMES}), ["columns has too many rows"]),
        (json.dumps([IRIS_ROW] * (MAX_ROWS + 1)).encode(), ["has too many rows"]),
    ],
    ids=lambda one: one[:40] if isinstance(one, bytes) else None,
)
def test_all_that_is_wrong_with_a_body_is_named(body, messages):
    errors = refusal(IRIS, body).errors

    found = [f"{error.path} {error.message}".strip() for error in errors]
    assert all(one.startswith(told) for one, told in zip(found, messages, strict=True)), found
    assert all(one.given is None or one.given.encode() for one in errors)


@pytest.mark.parametrize("missing", ["", " ", "NaN", "null"])
def test_what_stands_for_a_missing_number_in_csv_is_missing(missing):
    names = ('"the ""plan"""', "가입일", "월 요금", "Usage (GB)")
    text = f"{','.join(names)}\nplus,2024-01-01,{missing},1.5\nplus,2024-01-01,2, 3 \n"

    found = json.loads(mlflow.read_csv(codec(MIXED_CONTRACT), text.encode()).text)["columns"]

    assert (found["월 요금"], found["Usage (GB)"]) == ([None, 2], [1.5, 3])


@pytest.mark.parametrize("start", [b"", ",".join(NAMES).encode() + b"\n"])
def test_a_very_long_line_of_csv_takes_little_memory(start):
    line = (b"ab," * 1000 + b'"\n",') * 400

    def read() -> str:
        with pytest.raises(ProblemError) as caught:
            mlflow.read_csv(IRIS, start + line)
        return str(caught.value)

    message, peak = peak_of(read)

    assert "is no CSV: a line has more than" in message
    assert peak < 8 * len(line)


CONTRACTS = contracts().map(Contract.model_validate)


@given(st.data())
def test_what_is_taken_is_what_the_rules_of_the_contract_allow(data: st.DataObject):
    contract = data.draw(CONTRACTS)
    row = {name: data.draw(any_values(one)) for name, one in contract.features.items()}
    assume(not {math.inf, -math.inf}.intersection(one for one in row.values() if one == one))
    reader = codec(contract, "float64")
    # NaN is no JSON, and stands for a value that is missing.
    plain = {name: None if one != one else one for name, one in row.items()}
    wrong = {
        name: message
        for name, one in contract.features.items()
        if (message := fault(plain[name], one)) is not None
    }
    for document, prefix in ((row, ""), ([row, row], "[0]."), ([row, row], "[1].")):
        body = json.dumps(document).encode()
        if not wrong:
            matrix(reader, body)
            continue
        found = {one.path: one.message for one in refusal(reader, body).errors}
        assert {prefix + name: message for name, message in wrong.items()}.items() <= found.items()


# Rows whose names have a quote are read one by one.
UNQUOTED = {name: one for name, one in MIXED_CONTRACT.features.items() if '"' not in name}
MIXED = codec(MIXED_CONTRACT.model_copy(update={"features": UNQUOTED}))
ROW = {name: MIXED_ROW[name] for name in UNQUOTED}
MANY = [ROW | {"Usage (GB)": None, "channel": 'a "},{" b\\'}] * 3000


def both_forms(rows: list[dict[str, Any]]) -> tuple[Any, Any]:
    return rows, {"columns": {name: [row[name] for row in rows] for name in UNQUOTED}}


@pytest.mark.parametrize("ascii_only", [True, False])
def test_long_bodies_are_read_in_pieces_as_short_ones_are(ascii_only):
    one = matrix(MIXED, json.dumps(MANY[0]).encode())

    for document in both_forms(MANY):
        body = json.dumps(document, ensure_ascii=ascii_only).encode()
        assert len(body) > 3 * documents.CHUNK
        np.testing.assert_array_equal(matrix(MIXED, body), np.repeat(one, 3000, axis=0))


def test_a_fault_in_a_long_body_is_found_where_it_is():
    rows = [*MANY[:-1], MANY[0] | {"select": "three"}]

    paths = ("[2999].select", "columns.select[2999]")
    for document, path in zip(both_forms(rows), paths, strict=True):
        (error,) = refusal(MIXED, json.dumps(document).encode()).errors
        assert (error.path, error.message, error.given) == (path, "is no number", '"three"')


def test_nobody_reads_on_for_a_client_that_has_left():
    body = json.dumps([IRIS_ROW] * 20_000).encode()
    token = current_request.set(Request("GET", "/", {}, None, 0, "gone", is_cancelled=True))
    try:
        with pytest.raises(ProblemError, match="left"):
            IRIS.read(body)
    finally:
        current_request.reset(token)
