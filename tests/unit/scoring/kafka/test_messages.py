"""Reading the row in a message."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.scoring.feature_matrix import FeatureReader
from mlops_for_mle.scoring.kafka.messages import BadMessageError, MessageReader, MessageRow
from tests.mixed import MIXED_CONTRACT
from tests.releases import IRIS_CONTRACT

READER = MessageReader(IRIS_CONTRACT)
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def encoded(**columns: Any) -> bytes:
    return json.dumps({**ROW, **columns}).encode()


def reason(value: bytes | None) -> str:
    with pytest.raises(BadMessageError) as caught:
        READER.read(value)
    return str(caught.value)


def test_a_bare_object_is_a_row() -> None:
    row = READER.read(encoded())

    assert row.values == ROW
    assert (row.key, row.timestamp) == (None, None)


def test_the_payload_of_kafka_connects_envelope_is_a_row() -> None:
    columns = {"id": 7, "timestamp": "2026-01-31 12:30:00.5", **ROW, "target": 1}
    row = READER.read(json.dumps({"schema": {"type": "struct"}, "payload": columns}).encode())

    assert row.values == columns
    assert row.key == 7
    assert row.timestamp == datetime.fromisoformat("2026-01-31 12:30:00.5")


def connect_field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"field": name, "name": f"org.apache.kafka.connect.data.{kind}", **more}


def enveloped(fields: list[Any], **columns: Any) -> bytes:
    return json.dumps({"schema": {"fields": fields}, "payload": {**ROW, **columns}}).encode()


def test_the_types_of_kafka_connect_are_read_by_their_schema() -> None:
    fields = [
        connect_field("timestamp", "Timestamp", type="int64"),
        connect_field("seen", "Timestamp", type="int64"),
        connect_field("joined", "Date", type="int32"),
        connect_field("fee", "Decimal", type="bytes", parameters={"scale": "2"}),
        connect_field("debt", "Decimal", type="bytes", parameters={"scale": "1"}),
        connect_field("number", "Decimal", type="bytes"),
        connect_field("nothing", "Date"),
        {"field": "sepal_length", "type": "double"},
    ]
    value = enveloped(
        fields,
        timestamp=1_769_862_600_500,
        seen=0,
        joined=20_484,
        fee="AwM=",
        debt="/w==",
        number=3.5,
        nothing=None,
    )

    row = READER.read(value)

    assert row.timestamp == datetime.fromisoformat("2026-01-31T12:30:00.5")
    assert row.values["seen"] == "1970-01-01T00:00:00"
    assert row.values["joined"] == "2026-01-31"
    assert row.values["fee"] == Decimal("7.71")
    assert row.values["debt"] == Decimal("-0.1")
    assert row.values["number"] == 3.5
    assert row.values["nothing"] is None
    assert row.values["sepal_length"] == ROW["sepal_length"]


def test_a_row_of_every_type_of_column_fits_its_contract() -> None:
    fields = [
        connect_field("월 요금", "Decimal", parameters={"scale": "2"}),
        connect_field("가입일", "Date"),
        connect_field("last seen", "Timestamp"),
    ]
    payload = {
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
    value = json.dumps({"schema": {"fields": fields}, "payload": payload}).encode()

    row = MessageReader(MIXED_CONTRACT).read(value)

    read = FeatureReader(MIXED_CONTRACT, "float32").read([row.values])
    assert read.rejected == ()
    assert read.values[0, 0] == pytest.approx(7.71)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("Date", "tomorrow"), ("Date", 10**12), ("Timestamp", True), ("Decimal", "no base64!")],
)
def test_a_value_that_contradicts_its_schema_is_refused(kind: str, wrong: Any) -> None:
    said = reason(enveloped([connect_field("joined", kind)], joined=wrong))

    assert said == f"joined: is no {kind} of Kafka Connect, found {json.dumps(wrong)}"


@pytest.mark.parametrize("schema", [None, 1, [], {}, {"fields": None}, {"fields": [1, {}]}])
def test_a_schema_that_says_nothing_is_no_obstacle(schema: Any) -> None:
    value = json.dumps({"schema": schema, "payload": ROW}).encode()

    assert READER.read(value).values == ROW


def test_a_payload_is_a_column_where_the_contract_has_one_of_that_name() -> None:
    contract = Contract.model_validate(
        IRIS_CONTRACT.model_dump() | {"features": {"payload": {"type": "float"}}}
    )

    row = MessageReader(contract).read(b'{"payload": 3.5}')

    assert row.values == {"payload": 3.5}


def test_an_object_with_a_payload_among_other_columns_is_a_row() -> None:
    assert READER.read(encoded(payload="x")).values["payload"] == "x"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-01-31T12:30:00", "2026-01-31T12:30:00"),
        ("2026-01-31T12:30:00.25+09:00", "2026-01-31T03:30:00.250000"),
        ("2026-01-31T12:30:00Z", "2026-01-31T12:30:00"),
        (0, "1970-01-01T00:00:00"),
        (1_769_862_600_500, "2026-01-31T12:30:00.500000"),
        (-1, "1969-12-31T23:59:59.999000"),
    ],
)
def test_a_time_may_be_text_or_milliseconds(given: Any, expected: str) -> None:
    found = READER.read(encoded(timestamp=given)).timestamp

    assert found is not None
    assert found.isoformat() == expected


@pytest.mark.parametrize("wrong", ["yesterday", 10**20, 1.5, True, [], "2026-13-01"])
def test_a_time_that_is_none_is_said_with_what_is_allowed(wrong: Any) -> None:
    said = reason(encoded(timestamp=wrong))

    assert said.startswith("timestamp: is no time such as 2026-01-31 12:30:00.5")
    assert said.endswith(f"found {json.dumps(wrong)}")


@pytest.mark.parametrize("wrong", ["7", 1.0, True, 2**63, -(2**63) - 1])
def test_a_key_is_a_whole_number_of_64_bits(wrong: Any) -> None:
    assert reason(encoded(id=wrong)).startswith("id: is no whole number of 64 bits")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "tombstone"),
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b'{"sepal_length": NaN}', "NaN is no number"),
        (b'{"sepal_length": -Infinity}', "-Infinity is no number"),
        (b"\xff", "is not UTF-8, found the byte 0xff at position 0"),
        (b"null", "is no object, found null"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"id": 1, "id": 1}', '"id" is given more than once'),
        (b'{"a": {"b": 1, "b": 2}}', '"b" is given more than once'),
        (b'{"id": ' + b"9" * 5000 + b"}", "is no JSON that can be read"),
        (b'{"payload": null}', "payload: is no object, found null"),
        (b'{"schema": null, "payload": [1]}', "payload: is no object, found [1]"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_holds_no_row_is_refused_with_the_reason(value: bytes | None, expected: str) -> None:
    assert expected in reason(value)


def test_a_reason_shows_no_more_than_the_beginning_of_a_value() -> None:
    assert len(reason(encoded(timestamp="x" * 10_000))) < 300


def test_a_reason_can_be_written_whatever_characters_it_shows() -> None:
    assert reason(b'{"timestamp": "\\ud800"}').encode()


def outcome(value: bytes) -> MessageRow | str:
    try:
        return READER.read(value)
    except BadMessageError as error:
        return str(error)


@given(JSON)
def test_any_json_is_a_row_or_refused_with_a_reason(document: Any) -> None:
    found = outcome(json.dumps(document).encode())

    assert found.encode() if isinstance(found, str) else isinstance(found.values, dict)


@given(st.binary())
def test_any_bytes_are_a_row_or_refused_with_a_reason(value: bytes) -> None:
    found = outcome(value)

    assert found.encode() if isinstance(found, str) else isinstance(found.values, dict)
