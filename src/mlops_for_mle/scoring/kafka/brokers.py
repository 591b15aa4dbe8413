"""The connection to the brokers: clients, what goes wrong with them, and the topics."""

import logging
import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from mlops_for_mle.errors import ConfigurationError, PrerequisiteError, UserError
from mlops_for_mle.scoring.kafka.settings import PREFIX, KafkaSettings
from mlops_for_mle.stop_signal import StopSignal

_ANSWER_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_REPEAT_SECONDS = 60.0
_POLL_INTERVAL_MILLISECONDS = 300_000

# What brokers send that give topics no identities.
_NO_TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAA"

_REFUSED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError._AUTHENTICATION,
    }
)

_LOGGER = logging.getLogger(__name__)


class BrokerTroubles:
    """Says once, and again every minute, what keeps the brokers from answering."""

    def __init__(self, servers: str) -> None:
        """Take the servers as they were configured."""
        self._servers = servers
        self._reason: str | None = None
        self._said_at: float | None = None
        self._are_all_down = False

    def note(self, error: KafkaError) -> None:
        """Take an error that a client had; the clients themselves go on trying."""
        code = error.code()
        if code == KafkaError._ALL_BROKERS_DOWN:
            self._are_all_down = True
        else:
            self._reason = error.str()
        # One broker of several may be away, and that all of them are is no reason by itself.
        if self._reason is None or (code == KafkaError._TRANSPORT and not self._are_all_down):
            return
        now = time.monotonic()
        if self._said_at is None or now - self._said_at > _REPEAT_SECONDS:
            self._said_at = now
            _LOGGER.warning(
                "brokers=%s do not answer (%s); trying again", self._servers, self._reason
            )

    def over(self) -> None:
        """Note that a broker has answered."""
        if self._said_at is not None:
            _LOGGER.info("brokers=%s answer again", self._servers)
        self._reason = self._said_at = None
        self._are_all_down = False

    @property
    def reason(self) -> str | None:
        """What the brokers' last trouble was; None when they answer."""
        return self._reason


class _ClientLog:
    """Takes the lines of librdkafka, which repeats itself several times a second."""

    def log(self, level: int, message: str, *values: object) -> None:
        """Keep a line for those who want to see everything."""
        del level
        _LOGGER.debug(message, *values)


class Brokers:
    """Makes clients and answers questions about topics."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Nothing is connected before the first question.

        Raises:
            ConfigurationError: The client refuses its settings, such as a file that is no
                certificate.
        """
        self.troubles = BrokerTroubles(settings.bootstrap_servers)
        self._settings = settings
        try:
            self._admin = AdminClient(self._properties(), logger=_ClientLog())
        except KafkaException as exception:
            reason = exception.args[0].str().removeprefix("Failed to create admin client: ")
            raise ConfigurationError(_named(reason, settings)) from exception

    def consumer(self, group: str) -> Consumer:
        """Make a member of a group, which commits offsets only when it is told to."""
        settings = self._settings
        timeout = int(settings.session_timeout_seconds * 1000)
        return Consumer(
            self._properties()
            | {
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": settings.auto_offset_reset,
                "session.timeout.ms": timeout,
                # The client refuses a session that is longer than this, whose default is 300 s.
                "max.poll.interval.ms": max(_POLL_INTERVAL_MILLISECONDS, timeout),
                "heartbeat.interval.ms": min(3000, timeout // 3),
                "allow.auto.create.topics": False,
                "topic.metadata.refresh.interval.ms": 30_000,
            },
            logger=_ClientLog(),
        )

    def producer(self) -> Producer:
        """Make a producer that says of each message whether the brokers have it."""
        return Producer(
            self._properties()
            | {
                "acks": "all",
                "message.timeout.ms": int(self._settings.delivery_timeout_seconds * 1000),
            },
            logger=_ClientLog(),
        )

    def prepare_topics(
        self, topic: str, dead_letter_topic: str, stopping: StopSignal, patiently: bool
    ) -> bool:
        """Wait until the topic is there, and make the other one where it is missing.

        Args:
            topic: The topic to read.
            dead_letter_topic: The topic for bad messages; it is made with one partition.
            stopping: Ends the waiting.
            patiently: Wait as long as it takes.

        Returns:
            Whether both are there; False when the waiting was ended.

        Raises:
            PrerequisiteError: The brokers do not answer or there is no such topic, and it was not
                to be waited for.
            UserError: The brokers refuse this client.
        """
        pause, is_missing = _FIRST_PAUSE_SECONDS, False
        while not stopping.is_set():
            try:
                topics = self._admin.list_topics(timeout=_ANSWER_SECONDS).topics
                self.troubles.over()
                if topic in topics:
                    self._make_topic(dead_letter_topic, is_there=dead_letter_topic in topics)
                    return True
            except KafkaException as exception:
                self._raise_unless_patient(exception, patiently)
            else:
                if not patiently:
                    raise PrerequisiteError(f"There is no topic {topic}: create it first.")
                if not is_missing:
                    _LOGGER.warning("topic=%s is not there yet; waiting for it", topic)
                is_missing = True
            stopping.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        return False

    def topic_id(self, topic: str) -> str | None:
        """The identity of a topic, which another of the same name does not have.

        Returns:
            None where the brokers are too old to give topics identities (before Kafka 2.8).

        Raises:
            KafkaException: The brokers do not answer.
        """
        asked = self._admin.describe_topics(
            TopicCollection([topic]), request_timeout=_ANSWER_SECONDS
        )
        try:
            found = asked[topic].result().topic_id
        except KafkaException as exception:
            if exception.args[0].code() == KafkaError._UNSUPPORTED_FEATURE:
                return None
            raise
        return str(found) if found is not None and str(found) != _NO_TOPIC_ID else None

    def _make_topic(self, topic: str, is_there: bool) -> None:
        if is_there:
            return
        try:
            # The brokers decide how often it is replicated.
            made = self._admin.create_topics(
                [NewTopic(topic, 1, -1)], request_timeout=_ANSWER_SECONDS
            )
            made[topic].result()
        except KafkaException as exception:
            error = exception.args[0]
            if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return
            self.raise_if_refused(error, f"make the topic {topic}, so somebody else has to")
            raise
        _LOGGER.info("topic=%s was made for bad messages", topic)

    def _raise_unless_patient(self, exception: KafkaException, patiently: bool) -> None:
        error = exception.args[0]
        servers = self._settings.bootstrap_servers
        # Has the client tell what it knows, such as that a login was refused.
        self._admin.poll(0)
        self.raise_if_refused(error, f"use the brokers {servers}")
        reason = self.troubles.reason or error.str()
        if not patiently:
            raise PrerequisiteError(f"The brokers {servers} do not answer: {reason}") from exception
        self.troubles.note(error)

    def raise_if_refused(self, error: KafkaError, what: str) -> None:
        """Turn a refusal, which no waiting mends, into a sentence.

        Args:
            error: Any error of a client.
            what: What the client was about to do, as in "This client may not …".

        Raises:
            UserError: The brokers do not know this client or do not let it do that.
        """
        if error.code() in _REFUSED:
            raise UserError(f"This client may not {what}: {error.str()}")

    def _properties(self) -> dict[str, Any]:
        return self._settings.client_properties() | {"error_cb": self.troubles.note}


def _named(reason: str, settings: KafkaSettings) -> str:
    """What librdkafka refuses, under the name that the setting has here."""
    name, _, words = reason.partition(" failed: ")
    found = settings.client_properties().get(name)
    if found is not None and name.endswith(".location"):
        variable = PREFIX + name.replace(".", "_").upper()
        return f"{variable}: Kafka's client cannot use the file: {words} (found {found!r})"
    return f"{PREFIX}…: Kafka's client refuses the settings: {reason}"
