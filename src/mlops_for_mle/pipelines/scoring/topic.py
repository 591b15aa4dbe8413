"""The messages of a Kafka topic, as a member of a consumer group is given them.

A message is a row as a JSON object, or what Kafka Connect's JsonConverter makes of one:
``{"schema": …, "payload": {…}}``, where dates and times are days and milliseconds since 1970, and
the digits of a decimal number are bytes in base64.
"""

import logging
import os
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Thread
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from sqlalchemy import Connection

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.columns import as_json, plain
from mlops_for_mle.contract.model import normalised
from mlops_for_mle.contract.rules import read_time
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.scoring.following import Follower, IncomingRow, Record

# Properties of librdkafka that the environment may set: KAFKA_SASL_USERNAME is sasl.username.
# Only these, since other programs have variables that begin with KAFKA_, too.
_PROPERTIES = ("security.", "sasl.", "ssl.", "auto.offset.reset", "session.timeout.ms")
_CLOSE_SECONDS = 5.0
_BIGINT = range(-(2**63), 2**63)
# By the last part of the name of a logical type, of Kafka Connect or of Debezium.
_UNITS = {"Date": "days", "Timestamp": "milliseconds"}
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (times are kept in UTC without saying so)

_LOGGER = logging.getLogger(__name__)


class TopicFollower(Follower):
    """Scores messages of the partitions that the group has given to this member."""

    def __init__(
        self,
        contract: Contract,
        store: str,
        size: int,
        topic: str,
        settings: Mapping[str, str],
        output_topic: str | None = None,
    ) -> None:
        super().__init__(contract, store, size)
        self._topic = topic
        self._output_topic = output_topic
        self._last_error = self._pending_error = ""
        self._taken: list[Message] = []
        # None stands for the partitions that are not known before the group assigns them.
        self._unread: set[int | None] = {None}
        # The client's log would repeat several times a second what the callback is told.
        clients: dict[str, Any] = {"error_cb": self._on_error, "log_level": 0}
        for name, value in os.environ.items():
            setting = name.removeprefix("KAFKA_").lower().replace("_", ".")
            if name.startswith("KAFKA_") and setting.startswith(_PROPERTIES) and value:
                clients[setting] = value
        clients |= settings
        self._producer = Producer({"message.timeout.ms": 30_000, **clients})
        self._consumer = Consumer(
            {
                "auto.offset.reset": "earliest",
                # A topic that is made later is found soon.
                "topic.metadata.refresh.interval.ms": 5_000,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                **clients,
            }
        )
        self._consumer.subscribe([topic], on_assign=self._on_assign)

    def _take(
        self, connection: Connection, features: Mapping[str, Feature]
    ) -> list[IncomingRow] | None:
        # What was read last and is not yet acknowledged comes again.
        if not self._taken:
            for message in self._consumer.consume(self._size, timeout=0):
                error = message.error()
                if error is None:
                    self._taken.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._unread.discard(message.partition())
                else:
                    self._pending_error = error.str()
        if not self._taken and self._pending_error:
            # The client goes on trying by itself.
            failure, self._pending_error = self._pending_error, ""
            raise UserError(f"Topic {self._topic}: {failure}")
        if not self._taken and not self._unread:
            return None
        return [parse_message(message, self._contract) for message in self._taken]

    def _acknowledge(self, predictions: list[Record]) -> None:
        if topic := self._output_topic:
            outcomes: list[KafkaError | None] = []
            for prediction in predictions:
                self._producer.produce(
                    topic, as_json(prediction), on_delivery=lambda error, _: outcomes.append(error)
                )
            self._producer.flush()
            for error in filter(None, outcomes):
                raise UserError(f"Topic {topic}: {error.str()}")
        offsets = {}
        for message in self._taken:
            offsets[message.partition() or 0] = (message.offset() or 0) + 1
        self._taken = []
        commits = [TopicPartition(self._topic, *offset) for offset in offsets.items()]
        self._consumer.commit(offsets=commits)

    def close(self) -> None:
        """Leave the group, without waiting long for brokers that are away."""
        # The client waits as long as a session lasts, and no signal interrupts it. What is not
        # committed then is read again, and has one prediction.
        leaving = Thread(target=self._consumer.close, daemon=True)
        leaving.start()
        leaving.join(_CLOSE_SECONDS)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        self._unread = set(numbers)
        _LOGGER.info("topic=%s partitions=%s", self._topic, numbers)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._pending_error = f"the brokers do not answer: {self._last_error}"
        else:
            self._last_error = error.str()


def parse_message(message: Message, contract: Contract) -> IncomingRow:
    """The row in a message, or what is wrong with it."""
    source, value = f"kafka:{message.topic()}/{message.partition()}", message.value()
    origin: Record = {"source": source, "source_id": message.offset()}
    try:
        values = read_row(value, contract)
    except ValueError as error:
        return IncomingRow(origin, (value or b"").decode(errors="replace"), str(error))
    key = values.get(contract.key)
    # A boolean is an int of Python's, too.
    origin["row_key"] = key if type(key) is int else None
    origin["timestamp"] = values.get(contract.timestamp)
    return IncomingRow(origin, values)


def read_row(value: bytes | None, contract: Contract) -> dict[str, Any]:
    """The columns in the value of a message; a ``ValueError`` says why it holds no row."""
    if value is None:
        raise ValueError("has no value (a tombstone)")
    logical_types = {contract.timestamp: ("Timestamp", 0)}
    try:
        row = msgspec.json.decode(value)
        if isinstance(row, dict) and row.keys() == {"schema", "payload"}:
            logical_types |= _logical_types(row["schema"] or {})
            row = row["payload"]
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    except (AttributeError, KeyError, TypeError):
        raise ValueError("is no envelope of Kafka Connect") from None
    if not isinstance(row, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004  (one kind for all reasons)
    row = {normalised(name): value for name, value in row.items()}
    for name, raw in row.items():
        # What is nested as deep as JSON is read could not be written again.
        cell = row[name] = plain(raw) if isinstance(raw, dict | list) else raw
        logical_type, scale = logical_types.get(name, ("", 0))
        unit = _UNITS.get(logical_type)
        try:
            if type(cell) is int and unit:
                row[name] = (_EPOCH + timedelta(**{unit: cell})).isoformat()
            elif isinstance(cell, str) and logical_type == "Decimal":
                unscaled = int.from_bytes(b64decode(cell, validate=True), signed=True)
                row[name] = Decimal(f"{unscaled}E{-scale}")
            elif type(cell) is int and cell not in _BIGINT:
                # Larger than any number of a table; as text it is refused in words.
                row[name] = str(cell)
            elif name == contract.timestamp and cell is not None:
                row[name] = read_time(str(cell)).isoformat()
        except (ArithmeticError, ValueError):
            kind = "decimal" if logical_type == "Decimal" else "time"
            raise ValueError(f"{name}: is no {kind}, found {cell!r:.80}") from None
    return row


def _logical_types(schema: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """By the field's name, its logical type and how many digits of a decimal are a fraction."""
    types = {}
    for field in schema.get("fields", ()):
        if logical_type := field.get("name"):
            scale = int((field.get("parameters") or {}).get("scale", 0))
            types[normalised(field["field"])] = logical_type.rpartition(".")[2], scale
    return types
