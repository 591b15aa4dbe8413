"""Scores the messages of a Kafka topic, as a member of a consumer group.

A batch of messages is scored and written in one transaction under its topic, partitions and
offsets, and only then are its offsets committed. Whatever breaks in between is done again, and
changes nothing the second time.
"""

import logging
import os
from collections.abc import Mapping
from functools import partial
from threading import Event
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.pipelines.scoring.following import Deployed, Sink, Totals, patiently
from mlops_for_mle.pipelines.scoring.messages import arrived
from mlops_for_mle.pipelines.scoring.nodes import as_json

_WAIT_SECONDS = 0.25
_ANSWER_SECONDS = 5.0

# Properties of librdkafka that the environment may set: KAFKA_SASL_USERNAME is sasl.username.
# Only these, since other programs have variables that begin with KAFKA_, too.
_OF_BOTH = ("bootstrap.", "security.", "sasl.", "ssl.")
_OF_MEMBERS = ("group.id", "auto.offset.reset", "session.timeout.ms")
_REFUSED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    }
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
    known = {name: one for name, one in found.items() if name.startswith(_OF_BOTH + _OF_MEMBERS)}
    settings = known | {name: one for name, one in given.items() if one}
    if "bootstrap.servers" not in settings:
        raise UserError("KAFKA_BOOTSTRAP_SERVERS: name the brokers, such as localhost:9092")
    return settings


class TopicScorer:
    """Reads a topic, scores its messages and writes the predictions, each message once."""

    def __init__(
        self,
        contract: Contract,
        deployed: Deployed,
        size: int,
        totals: Totals,
        topic: str,
        settings: Mapping[str, str],
        output_topic: str | None = None,
    ) -> None:
        """Say what is scored by what; nothing is asked of the brokers yet.

        Args:
            contract: Names the columns and the table of predictions.
            deployed: What scores.
            size: At most so many messages a transaction.
            totals: Kept up.
            topic: Where the rows are.
            settings: See ``client_settings``; with ``group.id``.
            output_topic: Where predictions go beside the table.
        """
        self._contract = contract
        self._deployed = deployed
        self._size = size
        self._totals = totals
        self._topic = topic
        self._servers = settings["bootstrap.servers"]
        self._output_topic = output_topic
        self._sink = Sink(contract, replace=False)
        self._trouble: KafkaError | None = None
        self._are_down = False
        self._unread: set[int] | None = None
        self._done: dict[int, int] = {}
        of_both = {name: one for name, one in settings.items() if name.startswith(_OF_BOTH)}
        clients = {"error_cb": self._note, "logger": _CLIENT_LOGGER}
        self._producer = Producer({**of_both, **clients, "message.timeout.ms": 30_000})
        self._consumer = Consumer(
            {
                "auto.offset.reset": "earliest",
                # A topic that is made later is found soon.
                "topic.metadata.refresh.interval.ms": 5_000,
                **settings,
                **clients,
                "allow.auto.create.topics": False,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )

    def run(self, stopping: Event, *, follow: bool) -> None:
        """Score to the topic's end or, when it follows, until it is to stop.

        Raises:
            UserError: The brokers refuse this client; or it does not follow, and something is
                missing or does not answer.
        """

        def through(work: Any) -> bool:
            return patiently(work, stopping, KafkaException) if follow else bool(work())

        try:
            if not through(self._find_topic):
                return
            self._consumer.subscribe([self._topic], on_assign=self._assigned)
            while not stopping.is_set() and (follow or self._unread != set()):
                messages = self._read()
                if self._are_down and not follow:
                    raise self._silent()
                if messages and not through(partial(self._finish, messages)):
                    _LOGGER.warning("stopped within a batch, which will be read again")
                self._commit()
                self._totals.tell()
        finally:
            # Leaves the group.
            self._consumer.close()

    def _find_topic(self) -> bool:
        try:
            topics = self._consumer.list_topics(timeout=_ANSWER_SECONDS).topics
        except KafkaException as error:
            # By now it is known why, such as that a login was refused.
            self._trouble = self._trouble or error.args[0]
            raise self._silent() from error
        if self._topic not in topics:
            raise PrerequisiteError(f"There is no topic {self._topic}: create it first.")
        return True

    def _read(self) -> list[Message]:
        messages = []
        for message in self._consumer.consume(self._size, _WAIT_SECONDS):
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                self._note(error)
                if error.fatal() or error.code() in _REFUSED:
                    raise UserError(f"The brokers refuse this client: {error.str()}")
                continue
            self._trouble, self._are_down = None, False
            if error is None:
                messages.append(message)
            elif self._unread is not None:
                self._unread.discard(message.partition() or 0)
        return messages

    def _finish(self, messages: list[Message]) -> bool:
        """Score messages and write what became of them; a second time changes nothing."""
        with engine_for(database_url()).begin() as connection:
            scorer = self._deployed.scorer(connection)
            rows = [arrived(message, self._contract) for message in messages]
            predictions, rejects = self._sink.score(connection, scorer, rows)
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
                raise KafkaException(failures[0])
        self._totals.add(len(predictions), len(rejects))
        for message in messages:
            self._done[message.partition() or 0] = (message.offset() or 0) + 1
        return True

    def _commit(self) -> None:
        """Commit what is done; what cannot be is tried again, or read again by whoever gets it."""
        if not self._done:
            return
        offsets = [TopicPartition(self._topic, *place) for place in self._done.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            _LOGGER.warning("offsets could not be committed: %s", error.args[0].str())
        else:
            self._done.clear()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del consumer
        self._unread = {one.partition for one in partitions}
        self._done.clear()
        listed = ",".join(map(str, sorted(self._unread))) or "none"
        _LOGGER.info("topic=%s partitions=%s", self._topic, listed)

    def _note(self, error: KafkaError) -> None:
        """Take what the clients say of their troubles; they go on trying by themselves."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._trouble = error
        elif not self._are_down:
            self._are_down = True
            _LOGGER.warning("%s; they are asked again and again", self._silent())

    def _silent(self) -> PrerequisiteError:
        reason = self._trouble.str() if self._trouble is not None else "no reason is known"
        return PrerequisiteError(f"The brokers {self._servers} do not answer: {reason}")
