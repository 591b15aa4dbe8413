"""The messages of a Kafka topic, as a member of a consumer group is given them.

Offsets are committed after what became of the messages is written under topic, partition and
offset. So what is read again, after whatever broke, has one prediction.

A message is a row as a JSON object, or what Kafka Connect's JsonConverter makes of one:
``{"schema": …, "payload": {…}}``, where the schema tells which numbers are times.
"""

import logging
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from threading import Thread
from typing import Any

import msgspec
from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from sqlalchemy import Connection

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.rules import read_time
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.scoring.following import Arrivals, Arrived, Records
from mlops_for_mle.pipelines.scoring.nodes import as_json

# Properties of librdkafka that the environment may set: KAFKA_SASL_USERNAME is sasl.username.
# Only these, since other programs have variables that begin with KAFKA_, too.
_PROPERTIES = (
    *("bootstrap.", "security.", "sasl.", "ssl."),
    *("group.id", "auto.offset.reset", "session.timeout.ms"),
)
_PATIENCE_SECONDS = 5.0
_BIGINT = range(-(2**63), 2**63)

_LOGGER = logging.getLogger(__name__)


class _Field(msgspec.Struct):
    """A column in the schema of Kafka Connect; ``name`` is that of a logical type."""

    field: str
    name: str | None = None


class _Schema(msgspec.Struct):
    fields: list[_Field] = []


class _Envelope(msgspec.Struct):
    payload: dict[str, Any]
    schema: _Schema | None = None


def client_settings(given: Mapping[str, str]) -> dict[str, str]:
    """Properties of librdkafka, out of variables ``KAFKA_…``; those that are given go before."""
    found = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in os.environ.items()
        if name.startswith("KAFKA_") and value
    }
    known = {name: value for name, value in found.items() if name.startswith(_PROPERTIES)}
    settings = known | {name: value for name, value in given.items() if value}
    if "bootstrap.servers" not in settings:
        raise UserError("KAFKA_BOOTSTRAP_SERVERS: name the brokers, such as localhost:9092")
    return settings


class Topic(Arrivals):
    """Messages of the partitions that the group has given to this member."""

    def __init__(
        self,
        contract: Contract,
        topic: str,
        settings: Mapping[str, str],
        size: int,
        output_topic: str | None = None,
    ) -> None:
        """Read a topic with ``client_settings``, some messages a transaction."""
        self._contract = contract
        self._topic = topic
        self._size = size
        self._output_topic = output_topic
        self._servers = settings["bootstrap.servers"]
        self._trouble, self._are_down = "", False
        self._taken: list[Message] = []
        self._unread: set[int] | None = None
        # Its log repeats several times a second what the callback for errors is told.
        clients = {**settings, "error_cb": self._note, "log_level": 0}
        self._producer = Producer({**clients, "message.timeout.ms": 30_000})
        self._consumer = Consumer(
            {
                "auto.offset.reset": "earliest",
                # A topic that is made later is found soon.
                "topic.metadata.refresh.interval.ms": 5_000,
                **clients,
                "allow.auto.create.topics": False,
                # Committed now and then is what was stored, and at the end.
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
            }
        )
        self._consumer.subscribe([topic], on_assign=self._assigned)

    def take(self, connection: Connection, features: Mapping[str, Feature]) -> list[Arrived]:
        """Read messages, unless those that were read last are not yet acknowledged."""
        if not self._taken:
            failures = []
            for message in self._consumer.consume(self._size, timeout=0):
                error = message.error()
                if error is None:
                    self._taken.append(message)
                elif error.code() != KafkaError._PARTITION_EOF:
                    failures.append(error)
                elif self._unread is not None:
                    self._unread.discard(message.partition() or 0)
            if failures:
                raise UserError(f"Topic {self._topic}: {failures[0].str()}")
        if self._are_down and not self._taken:
            # The client goes on trying by itself.
            self._are_down = False
            raise UserError(f"The brokers {self._servers} do not answer: {self._trouble}")
        return [arrived(message, self._contract) for message in self._taken]

    def acknowledge(self, predictions: Records) -> None:
        """Send predictions to the output topic, and have the offsets committed."""
        if self._output_topic is not None:
            failures: list[KafkaError] = []
            for one in predictions:
                self._producer.produce(
                    self._output_topic,
                    as_json(one),
                    on_delivery=lambda error, _: failures.append(error) if error else None,
                )
                self._producer.poll(0)
            self._producer.flush()
            if failures:
                raise UserError(f"Topic {self._output_topic}: {failures[0].str()}")
        ends = {one.partition() or 0: (one.offset() or 0) + 1 for one in self._taken}
        self._taken = []
        try:
            self._consumer.store_offsets(
                offsets=[TopicPartition(self._topic, *place) for place in ends.items()]
            )
        except KafkaException as error:
            # Whoever has the partitions now reads the messages again.
            _LOGGER.warning("offsets are not committed: %s", error.args[0].str())

    def is_at_end(self) -> bool:
        """Whether all partitions that were assigned are read."""
        return self._unread == set()

    def close(self) -> None:
        """Commit, and leave the group; brokers that are away are not waited for."""
        # The client waits as long as a session lasts, and no signal interrupts it. What is not
        # committed then is read again, and has one prediction.
        leaving = Thread(target=self._consumer.close, daemon=True)
        leaving.start()
        leaving.join(_PATIENCE_SECONDS)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._unread = {one.partition for one in partitions}
        listed = ",".join(map(str, sorted(self._unread))) or "none"
        _LOGGER.info("topic=%s partitions=%s", self._topic, listed)

    def _note(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._are_down = True
        else:
            self._trouble = error.str()


def arrived(message: Message, contract: Contract) -> Arrived:
    """The row in a message, or what is wrong with it.

    It has the time of its row or else its own; its key is that of the contract's table, if any.
    """
    place = f"kafka:{message.topic()}/{message.partition()}", message.offset() or 0
    value = message.value()
    try:
        values = read_row(value)
        time = _time(values.get(contract.timestamp))
    except ValueError as error:
        return Arrived(*place, (value or b"").decode(errors="replace"), fault=str(error))
    kind, milliseconds = message.timestamp()
    if time is None and kind != TIMESTAMP_NOT_AVAILABLE:
        time = _utc(milliseconds=milliseconds)
    key = values.get(contract.key)
    # A boolean is an int of Python's, too.
    return Arrived(*place, values, time, key if type(key) is int else None)


def read_row(value: bytes | None) -> dict[str, Any]:
    """The columns in the value of a message; which of them are allowed is not looked at.

    Raises:
        ValueError: It holds no row; says why.
    """
    if value is None:
        raise ValueError("has no value (a tombstone)")
    try:
        document = msgspec.json.decode(value)
        if isinstance(document, dict) and document.keys() == {"schema", "payload"}:
            document = _unwrap(msgspec.convert(document, _Envelope))
    except msgspec.ValidationError as error:
        raise ValueError(f"is no envelope of Kafka Connect: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004  (one kind for all reasons)
    # Larger than any number of a table; as text it is refused in words.
    return {
        name: str(one) if isinstance(one, int) and one not in _BIGINT else one
        for name, one in document.items()
    }


def _unwrap(envelope: _Envelope) -> dict[str, Any]:
    """The payload as a message without a schema would have it: times are text."""
    row = dict(envelope.payload)
    for one in envelope.schema.fields if envelope.schema else ():
        value, kind = row.get(one.field), (one.name or "").rpartition(".")[2]
        if value is None or kind not in ("Timestamp", "Date"):
            continue
        try:
            in_days = kind == "Date"
            row[one.field] = _utc(days=value)[:10] if in_days else _utc(milliseconds=value)
        except (ArithmeticError, TypeError):
            raise ValueError(f"{one.field}: is no {one.name}, found {value!r:.80}") from None
    return row


def _time(value: Any) -> str | None:
    """Text in ISO 8601, or milliseconds since 1970, as text in UTC."""
    try:
        if type(value) is int:
            return _utc(milliseconds=value)
        return None if value is None else read_time(value).isoformat()
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        raise ValueError(f"timestamp: is no ISO 8601 time, found {value!r:.80}") from None


def _utc(**since_1970: Any) -> str:
    # Times are kept in UTC without saying so.
    return (datetime(1970, 1, 1) + timedelta(**since_1970)).isoformat()  # noqa: DTZ001
