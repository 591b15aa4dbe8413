"""The messages of a Kafka topic, as a member of a consumer group is given them.

Offsets are committed after what became of the messages is written under topic, partition and
offset. So what is read again, after whatever broke, has one prediction.

A message is a row as a JSON object, or what Kafka Connect's JsonConverter makes of one:
``{"schema": …, "payload": {…}}``, where dates and times are days and milliseconds since 1970.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Thread
from typing import Any

import msgspec
from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)
from sqlalchemy import Connection

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.columns import as_json, plain
from mlops_for_mle.contract.model import normalised
from mlops_for_mle.contract.rules import read_time
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.scoring.following import Arrived, Follower, Record

# Properties of librdkafka that the environment may set: KAFKA_SASL_USERNAME is sasl.username.
# Only these, since other programs have variables that begin with KAFKA_, too.
_PROPERTIES = ("security.", "sasl.", "ssl.", "auto.offset.reset", "session.timeout.ms")
_PATIENCE_SECONDS = 5.0
_BIGINT = range(-(2**63), 2**63)
# By the last part of the name of a logical type, of Kafka Connect or of Debezium.
_UNITS = {"Date": "days", "Timestamp": "milliseconds"}

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
        """Read a topic with properties of librdkafka, to which ``KAFKA_…`` variables add."""
        super().__init__(contract, store, size)
        self._topic = topic
        self._output_topic = output_topic
        self._trouble = self._failure = ""
        self._taken: list[Message] = []
        # None stands for the partitions that are not known before the group assigns them.
        self._unread: set[int | None] = {None}
        # Its log repeats several times a second what the callback for errors is told.
        clients: dict[str, Any] = {"error_cb": self._note, "log_level": 0}
        for name, value in os.environ.items():
            known = name.removeprefix("KAFKA_").lower().replace("_", ".")
            if name.startswith("KAFKA_") and known.startswith(_PROPERTIES) and value:
                clients[known] = value
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
        self._consumer.subscribe([topic], on_assign=self._assigned)

    def _take(
        self, connection: Connection, features: Mapping[str, Feature]
    ) -> list[Arrived] | None:
        # Those that were read last are given again where they are not yet acknowledged.
        if not self._taken:
            for message in self._consumer.consume(self._size, timeout=0):
                error = message.error()
                if error is None:
                    self._taken.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._unread.discard(message.partition())
                else:
                    self._failure = error.str()
        if not self._taken and self._failure:
            # The client goes on trying by itself.
            failure, self._failure = self._failure, ""
            raise UserError(f"Topic {self._topic}: {failure}")
        if not self._taken and not self._unread:
            return None
        return [arrived(one, self._contract) for one in self._taken]

    def _acknowledge(self, predictions: list[Record]) -> None:
        if topic := self._output_topic:
            outcomes: list[KafkaError | None] = []
            for one in predictions:
                self._producer.produce(
                    topic, as_json(one), on_delivery=lambda error, _: outcomes.append(error)
                )
            self._producer.flush()
            for error in filter(None, outcomes):
                raise UserError(f"Topic {topic}: {error.str()}")
        ends = {one.partition() or 0: (one.offset() or 0) + 1 for one in self._taken}
        self._taken = []
        self._consumer.commit(offsets=[TopicPartition(self._topic, *end) for end in ends.items()])

    def close(self) -> None:
        """Leave the group; brokers that are away are not waited for for long."""
        # The client waits as long as a session lasts, and no signal interrupts it. What is not
        # committed then is read again, and has one prediction.
        leaving = Thread(target=self._consumer.close, daemon=True)
        leaving.start()
        leaving.join(_PATIENCE_SECONDS)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._unread = {one.partition for one in partitions}
        _LOGGER.info("topic=%s partitions=%s", self._topic, [one.partition for one in partitions])

    def _note(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._failure = f"the brokers do not answer: {self._trouble}"
        else:
            self._trouble = error.str()


def arrived(message: Message, contract: Contract) -> Arrived:
    """The row in a message, with its own time where the row has none, or what is wrong with it."""
    source, value = f"kafka:{message.topic()}/{message.partition()}", message.value()
    place: Record = {"source": source, "source_id": message.offset()}
    try:
        values = read_row(value, contract)
    except ValueError as error:
        return Arrived(place, (value or b"").decode(errors="replace"), str(error))
    key, time = values.get(contract.key), values.get(contract.timestamp)
    kind, milliseconds = message.timestamp()
    if not time and kind != TIMESTAMP_NOT_AVAILABLE:
        # Whoever sends a message may give it any number.
        with suppress(OverflowError):
            time = _utc(milliseconds=milliseconds)
    # A boolean is an int of Python's, too.
    place |= {"row_key": key if type(key) is int else None, "timestamp": time}
    return Arrived(place, values)


def read_row(value: bytes | None, contract: Contract) -> dict[str, Any]:
    """The columns in the value of a message; a ``ValueError`` says why it holds no row."""
    if value is None:
        raise ValueError("has no value (a tombstone)")
    kinds = {contract.timestamp: "Timestamp"}
    try:
        row = msgspec.json.decode(value)
        if isinstance(row, dict) and row.keys() == {"schema", "payload"}:
            columns = (row["schema"] or {}).get("fields", ())
            named = ((normalised(one["field"]), one["name"]) for one in columns if one.get("name"))
            kinds |= {name: kind.rpartition(".")[2] for name, kind in named}
            row = row["payload"]
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    except (AttributeError, KeyError, TypeError):
        raise ValueError("is no envelope of Kafka Connect") from None
    if not isinstance(row, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004  (one kind for all reasons)
    row = {normalised(name): given for name, given in row.items()}
    for name, given in row.items():
        # Of what is nested as deep as JSON is read, no more could be said.
        one = row[name] = plain(given) if isinstance(given, dict | list) else given
        unit = _UNITS.get(kinds.get(name, ""))
        try:
            if type(one) is int and unit:
                row[name] = _utc(**{unit: one})
            elif type(one) is int and one not in _BIGINT:
                # Larger than any number of a table; as text it is refused in words.
                row[name] = str(one)
            elif name == contract.timestamp and one is not None:
                row[name] = read_time(str(one)).isoformat()
        except (ArithmeticError, ValueError):
            raise ValueError(f"{name}: is no time, found {one!r:.80}") from None
    return row


def _utc(**since_1970: int) -> str:
    # Times are kept in UTC without saying so.
    return (datetime(1970, 1, 1) + timedelta(**since_1970)).isoformat()  # noqa: DTZ001
