"""Reading the row in a message."""

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import check_columns
from mlops_for_mle.pipelines.scoring.messages import read_row
from tests.mixed import MIXED_CONTRACT

ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELD = st.fixed_dictionaries(
    {"field": JSON, "name": st.sampled_from(["x.Timestamp", "x.Date", "x.Decimal"])},
    optional={"parameters": JSON},
)


def field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"field": name, "name": f"org.apache.kafka.connect.data.{kind}", **more}


def enveloped(fields: Any, columns: Any) -> bytes:
    return json.dumps({"schema": {"fields": fields}, "payload": columns}).encode()


def test_a_row_is_an_object_or_the_payload_of_an_envelope(contract: Contract) -> None:
    assert read_row(json.dumps(ROW).encode(), contract) == ROW
    assert read_row(enveloped([], ROW), contract) == ROW
    assert read_row(json.dumps({"payload": ROW, "schema": None}).encode(), contract) == ROW


def test_what_only_looks_like_an_envelope_is_a_row(contract: Contract) -> None:
    row = {**ROW, "payload": "x"}
    assert read_row(json.dumps(row).encode(), contract) == row
    raw = contract.model_dump() | {"features": {"payload": {"type": "float"}}}
    assert read_row(b'{"payload": 3.5}', Contract.model_validate(raw)) == {"payload": 3.5}


def test_the_types_of_kafka_connect_are_read_by_their_schema(contract: Contract) -> None:
    fields = [
        field("seen", "Timestamp"),
        field("joined", "Date"),
        field("fee", "Decimal", parameters={"scale": "2"}),
        field("debt", "Decimal", parameters={"scale": "1"}),
        field("number", "Decimal"),
        field("nothing", "Date"),
        {"field": "plain", "type": "double"},
    ]
    columns = {"seen": 0, "joined": 20_484, "fee": "AwM=", "debt": "/w==", "number": 3.5}

    found = read_row(enveloped(fields, {**columns, "nothing": None, "plain": 1.5}), contract)

    assert found == {
        "seen": "1970-01-01T00:00:00",
        "joined": "2026-01-31",
        "fee": Decimal("7.71"),
        "debt": Decimal("-0.1"),
        "number": 3.5,
        "nothing": None,
        "plain": 1.5,
    }


def test_a_row_of_every_type_of_column_fits_its_contract() -> None:
    fields = [
        field("월 요금", "Decimal", parameters={"scale": "2"}),
        field("가입일", "Date"),
        field("last seen", "Timestamp"),
    ]
    columns = {
        "월 요금": "AwM=",
        "Usage (GB)": 1.5,
        "select": None,
        "is new": True,
        'the "plan"': "plus",
        "channel": "phone",
        "region code": 10,
        "가입일": 20_484,
        "last seen": 1_769_862_600_500,
        "left?": None,
    }

    row = read_row(enveloped(fields, columns), MIXED_CONTRACT)

    rows = pd.DataFrame([row], columns=list(MIXED_CONTRACT.features), dtype=object)
    fitting, rejected = check_columns(rows, MIXED_CONTRACT.features)
    assert rejected == {}
    assert fitting["월 요금"].tolist() == [pytest.approx(7.71)]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("Date", "tomorrow"), ("Date", 10**12), ("Timestamp", []), ("Decimal", "no base64!")],
)
def test_a_value_that_contradicts_its_schema_is_refused(
    contract: Contract, kind: str, wrong: Any
) -> None:
    with pytest.raises(ValueError, match=rf"not hold what its schema says: .*'joined'.*{kind}"):
        read_row(enveloped([field("joined", kind)], {"joined": wrong}), contract)


@given(value=st.binary() | JSON.map(lambda one: json.dumps(one).encode()))
def test_any_message_is_a_row_or_refused_with_a_reason(value: bytes) -> None:
    with suppress(ValueError):
        read_row(value, MIXED_CONTRACT)


@given(fields=st.lists(FIELD | JSON), columns=JSON)
def test_any_envelope_is_a_row_or_refused_with_a_reason(fields: Any, columns: Any) -> None:
    with suppress(ValueError):
        read_row(enveloped(fields, columns), MIXED_CONTRACT)
