"""Reading the row in a message."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.pipelines.scoring import topic
from tests.releases import contract_of

CONTRACT = contract_of(
    "visits",
    {"seen": {"type": "timestamp"}, "joined": {"type": "date"}, "age": {"type": "integer"}},
)
ROW = {"age": 5, "seen": "2026-01-31T12:00:00", "joined": None, "payload": "x"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
COLUMNS = st.dictionaries(st.sampled_from(["seen", "joined", "age", "timestamp", "id"]), JSON)


def read_row(value: bytes | None) -> dict[str, Any]:
    return topic.read_row(value, CONTRACT)


def enveloped(columns: Any, schema: Any = None) -> bytes:
    return json.dumps({"schema": schema, "payload": columns}).encode()


def test_a_row_is_an_object_or_the_payload_of_an_envelope():
    assert read_row(json.dumps(ROW).encode()) == ROW
    assert read_row(enveloped(ROW)) == ROW
    # A name is the same in another form of Unicode.
    assert read_row(b'{"e\xcc\x81": 1}') == {"\u00e9": 1}
    assert read_row(enveloped(ROW, {"type": "struct", "fields": []})) == ROW


def test_a_number_is_a_time_where_its_schema_says_so():
    kinds = {"seen": "org.apache.kafka.connect.data.Date", "joined": "io.debezium.time.Timestamp"}
    fields = [{"field": name, "type": "int64", "name": kind} for name, kind in kinds.items()]
    fields += [
        {"field": "age", "type": "int32"},
        {"field": "timestamp", "name": "x.MicroTimestamp"},
    ]
    columns = {"seen": 20_484, "joined": 500, "age": 7, "fee": "AwM="}

    found = read_row(enveloped(columns, {"fields": fields}))

    expected = {"seen": "2026-01-31T00:00:00", "joined": "1970-01-01T00:00:00.500000"}
    assert found == columns | expected
    # Elsewhere it is none, and the contract says so; but for the time of the row itself.
    columns["timestamp"] = 1_500
    assert read_row(enveloped(columns)) == columns | {"timestamp": "1970-01-01T00:00:01.500000"}
    with pytest.raises(ValueError, match="timestamp: is no time, found "):
        read_row(enveloped({"timestamp": 10**15}))
    with pytest.raises(ValueError, match="is no envelope of Kafka Connect"):
        read_row(enveloped(columns, {"fields": [None]}))


def test_a_text_is_a_decimal_number_where_its_schema_says_so():
    kind = {"name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}}
    schema = {"fields": [{"field": "age", **kind}]}
    for cell, number in (("AwM=", "7.71"), ("/w==", "-0.01"), (1.5, "1.5")):
        assert str(read_row(enveloped({"age": cell}, schema))["age"]) == number
    with pytest.raises(ValueError, match="age: is no decimal, found 'A'"):
        read_row(enveloped({"age": "A"}, schema))


@given(
    value=st.binary()
    | (JSON | COLUMNS).map(lambda one: json.dumps(one).encode())
    | st.builds(enveloped, JSON | COLUMNS, JSON)
)
def test_any_message_is_a_row_or_refused_with_a_reason(value):
    with suppress(ValueError):
        read_row(value)


@pytest.mark.parametrize("name", ["age", "timestamp"])
def test_a_message_that_is_nested_as_deep_as_can_be_stops_nothing(name):
    def told(row: dict[str, Any], calls: int = 50) -> str:
        return told(row, calls - 1) if calls else repr(row)

    for levels in range(900, 1000):
        message = f'{{"{name}": {"[" * levels}{"]" * levels}}}'.encode()
        # Which of them Python can read depends on its version.
        with suppress(ValueError):
            assert told(read_row(message)).startswith(f"{{'{name}': [[")
