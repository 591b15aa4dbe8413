"""Reading the row in a message."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.scoring import topic

CONTRACT = Contract.model_validate(
    {
        "name": "visits",
        "table": "visits",
        "features": {
            "seen": {"type": "timestamp"},
            "joined": {"type": "date"},
            "age": {"type": "integer"},
        },
        "target": {"column": "y", "task": "regression", "response_name": "spent"},
    }
)
ROW = {"age": 5, "seen": "2026-01-31T12:00:00", "joined": None, "payload": "x"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
COLUMNS = st.dictionaries(st.sampled_from(["seen", "joined", "age", "timestamp", "id"]), JSON)


def read_row(value: bytes | None) -> dict[str, Any]:
    return topic.read_row(value, CONTRACT, CONTRACT.features)


def enveloped(columns: Any, schema: Any = None) -> bytes:
    return json.dumps({"schema": schema, "payload": columns}).encode()


def test_a_row_is_an_object_or_the_payload_of_an_envelope() -> None:
    assert read_row(json.dumps(ROW).encode()) == ROW
    assert read_row(enveloped(ROW)) == ROW
    assert read_row(enveloped(ROW, {"type": "struct", "fields": []})) == ROW


def test_times_of_kafka_connect_are_numbers() -> None:
    columns = {"seen": 500, "joined": 20_484, "age": 7, "timestamp": 1_500, "fee": "AwM="}

    assert read_row(enveloped(columns)) == {
        **columns,
        "seen": "1970-01-01T00:00:00.500000",
        "joined": "2026-01-31T00:00:00",
        "timestamp": "1970-01-01T00:00:01.500000",
    }
    # Elsewhere a number is no date, and the contract says so.
    assert read_row(b'{"joined": 20484}') == {"joined": 20_484}


def test_the_unit_of_a_time_is_that_of_its_schema() -> None:
    kinds = {"seen": "org.apache.kafka.connect.data.Date", "joined": "io.debezium.time.Timestamp"}
    fields = [{"field": name, "type": "int64", "name": kind} for name, kind in kinds.items()]
    fields += [
        {"field": "age", "type": "int32"},
        {"field": "timestamp", "name": "x.MicroTimestamp"},
    ]
    columns = {"seen": 20_484, "joined": 20_484 * 86_400_000, "age": 7}

    day = "2026-01-31T00:00:00"
    expected = {"seen": day, "joined": day, "age": 7}
    assert read_row(enveloped(columns, {"fields": fields})) == expected
    with pytest.raises(ValueError, match="timestamp: is no time, found 150000000000000"):
        read_row(enveloped({"timestamp": 150_000_000_000_000}, {"fields": fields}))
    with pytest.raises(ValueError, match="is no envelope of Kafka Connect: Expected"):
        read_row(enveloped(columns, {"fields": [None]}))


@pytest.mark.parametrize("columns", [{"joined": 10**12}, {"seen": 10**15}, {"timestamp": [1]}])
def test_a_number_that_is_no_time_is_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(columns))}: is no time, found "):
        read_row(enveloped(columns))


@given(
    value=st.binary()
    | (JSON | COLUMNS).map(lambda one: json.dumps(one).encode())
    | st.builds(enveloped, JSON | COLUMNS, JSON)
)
def test_any_message_is_a_row_or_refused_with_a_reason(value: bytes) -> None:
    with suppress(ValueError):
        read_row(value)
