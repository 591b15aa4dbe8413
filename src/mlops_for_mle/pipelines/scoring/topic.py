"""The messages of a Kafka topic, as a member of a consumer group is given them.

Offsets are committed after what became of the messages is written under topic, partition and
offset. So what is read again, after whatever broke, has one prediction.
"""

import logging
import os
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from sqlalchemy import Connection

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.scoring.following import Arrivals, Arrived, Records
from mlops_for_mle.pipelines.scoring.messages import arrived
from mlops_for_mle.pipelines.scoring.nodes import as_json

# Properties of librdkafka that the environment may set: KAFKA_SASL_USERNAME is sasl.username.
# Only these, since other programs have variables that begin with KAFKA_, too.
_PROPERTIES = (
    *("bootstrap.", "security.", "sasl.", "ssl."),
    *("group.id", "auto.offset.reset", "session.timeout.ms"),
)

_LOGGER = logging.getLogger(__name__)
# It repeats several times a second what the callback for errors tells, too.
_CLIENT_LOGGER = logging.getLogger(f"{__name__}.client")
_CLIENT_LOGGER.disabled = True


def client_settings(given: Mapping[str, str | None]) -> dict[str, str]:
    """How brokers are reached: properties of librdkafka, out of variables ``KAFKA_…``.

    Args:
        given: Further properties, which go before the variables.

    Raises:
        UserError: No broker is named.
    """
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
        """Say what is read and how; the brokers answer later.

        Args:
            contract: Names the columns.
            topic: Where the rows are.
            settings: See ``client_settings``; with ``group.id``.
            size: At most so many messages a transaction.
            output_topic: Where predictions go beside the table.
        """
        self._contract = contract
        self._topic = topic
        self._size = size
        self._output_topic = output_topic
        self._servers = settings["bootstrap.servers"]
        self._trouble, self._are_down = "", False
        self._taken: list[Message] = []
        self._unread: set[int] | None = None
        clients = {**settings, "error_cb": self._note, "logger": _CLIENT_LOGGER}
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
        """Read messages, unless those that were read last are not yet acknowledged.

        Raises:
            UserError: There is no such topic, or the brokers refuse or do not answer.
        """
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
        """Send predictions to the output topic, and have the offsets committed.

        Raises:
            UserError: A prediction could not be sent.
        """
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
        """Commit, and leave the group."""
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._unread = {one.partition for one in partitions}
        listed = ",".join(map(str, sorted(self._unread))) or "none"
        _LOGGER.info("topic=%s partitions=%s", self._topic, listed)

    def _note(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._are_down = True
        else:
            self._trouble = error.str()
