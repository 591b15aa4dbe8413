"""Reading the row in a message."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.pipelines.scoring.topic import read_row

ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELD = st.fixed_dictionaries(
    {"field": JSON, "name": st.sampled_from(["x.Timestamp", "x.Date", "x.Decimal"])}
)


def field(name: str, kind: str) -> dict[str, Any]:
    return {"field": name, "type": "int64", "name": f"org.apache.kafka.connect.data.{kind}"}


def enveloped(fields: Any, columns: Any) -> bytes:
    return json.dumps({"schema": {"fields": fields}, "payload": columns}).encode()


@pytest.mark.parametrize("row", [ROW, {**ROW, "payload": "x"}])
def test_a_row_is_an_object_or_the_payload_of_an_envelope(row: dict[str, Any]) -> None:
    assert read_row(json.dumps(row).encode()) == row
    assert read_row(enveloped([], row)) == row
    assert read_row(json.dumps({"payload": row, "schema": None}).encode()) == row


def test_the_types_of_kafka_connect_are_read_by_their_schema() -> None:
    fields = [field("seen", "Timestamp"), field("joined", "Date"), field("nothing", "Date")]
    fields += [field("fee", "Decimal"), {"field": "plain", "type": "double"}]
    columns = {"seen": 500, "joined": 20_484, "nothing": None, "fee": "AwM=", "plain": 1.5}

    assert read_row(enveloped(fields, columns)) == {
        **columns,
        "seen": "1970-01-01T00:00:00.500000",
        "joined": "2026-01-31",
    }


@pytest.mark.parametrize(
    ("kind", "wrong"), [("Date", "tomorrow"), ("Date", 10**12), ("Timestamp", [])]
)
def test_a_value_that_contradicts_its_schema_is_refused(kind: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"joined: is no .*{kind}, found "):
        read_row(enveloped([field("joined", kind)], {"joined": wrong}))


@given(
    value=st.binary()
    | JSON.map(lambda one: json.dumps(one).encode())
    | st.builds(enveloped, st.lists(FIELD | JSON), JSON)
)
def test_any_message_is_a_row_or_refused_with_a_reason(value: bytes) -> None:
    with suppress(ValueError):
        read_row(value)
