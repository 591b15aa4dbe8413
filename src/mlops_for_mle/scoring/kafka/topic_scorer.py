"""Scores the messages of a topic as a member of a consumer group, until it is told to stop."""

import logging
import time
from collections.abc import Callable

import psycopg2
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from pydantic import Field
from sqlalchemy.exc import DBAPIError

from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.database import DatabaseUnavailableError, normalise_url
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.scoring.kafka.batch import BatchSteps, MessageBatch
from mlops_for_mle.scoring.kafka.brokers import Brokers
from mlops_for_mle.scoring.kafka.dead_letters import DeadLetterWriter
from mlops_for_mle.scoring.kafka.partitions import Partitions
from mlops_for_mle.scoring.kafka.progress import Progress, Totals
from mlops_for_mle.scoring.scorer import ReleaseScorer
from mlops_for_mle.stop_signal import StopSignal

_POLL_SECONDS = 0.5
# How long a batch waits to become full once it has a message.
_GATHER_SECONDS = 0.01
_REFRESH_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 15.0

# What passes by itself: a server is away, restarts, or has become a read-only standby.
_PASSING = (
    DatabaseUnavailableError,
    KafkaException,
    DBAPIError,
    psycopg2.Error,
)
_TOPIC_MAY_BE_ANOTHER = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID, KafkaError._UNKNOWN_TOPIC}
)

_LOGGER = logging.getLogger(__name__)


class TopicPlan(Configuration):
    """What is read, by whom, and for how long.

    Attributes:
        contract: Names the columns, the table of predictions and the deployments to follow.
        topic: The topic with the rows.
        group: The consumer group, whose members share the topic's partitions.
        dead_letter_topic: Where bad messages go.
        batch_size: At most so many messages a transaction.
        follow: Go on with messages as they arrive; else end when the topic was read to its end.
        report_seconds: Time between two lines of progress.
    """

    contract: Contract
    topic: str
    group: str
    dead_letter_topic: str
    batch_size: int = Field(default=500, ge=1, le=100_000)
    follow: bool = False
    report_seconds: float = Field(default=10.0, gt=0)


class TopicScorer:
    """Reads a topic, scores its messages and writes the predictions, each message once.

    A message is known by its topic, partition and offset, and by nothing in it: two rows may have
    the same key or none, and a row that was changed is sent again under its key.
    """

    def __init__(
        self,
        plan: TopicPlan,
        brokers: Brokers,
        scorer: ReleaseScorer,
        find_database: Callable[[], str],
        stopping: StopSignal,
    ) -> None:
        """Join the parts; nothing is connected before ``run``.

        Args:
            plan: What to do.
            brokers: Where the topics are.
            scorer: Follows the deployed release; its URL is the database that is written to.
            find_database: Gives the database's URL; asked again after a failure.
            stopping: Ends the run after the batch in hand.
        """
        self.totals = Totals()
        self._plan = plan
        self._brokers = brokers
        self._scorer = scorer
        self._find_database = find_database
        self._stopping = stopping
        self._partitions = Partitions(plan.topic)
        self._progress = Progress(plan.topic, self.totals, plan.report_seconds)
        self._topic_id: str | None = None
        self._is_identified = False
        self._refresh_at = 0.0

    def run(self) -> Totals:
        """Score until stopped or, where it does not follow, until the topic's end.

        While it follows, it outlives failures of the brokers and of the database, and waits for
        the topic and for a release.

        Raises:
            UserError: The brokers refuse this client; or it does not follow, and something is
                missing or does not answer.
        """
        plan = self._plan
        are_there = self._brokers.prepare_topics(
            plan.topic, plan.dead_letter_topic, self._stopping, patiently=plan.follow
        )
        if not are_there or not self._wait_for_release():
            return self.totals
        letters = DeadLetterWriter(self._brokers.producer(), plan.dead_letter_topic, plan.group)
        steps = BatchSteps(plan.contract, self._scorer, letters)
        consumer = self._brokers.consumer(plan.group)
        partitions = self._partitions
        try:
            consumer.subscribe(
                [plan.topic],
                on_assign=partitions.assigned,
                on_revoke=partitions.revoked,
                on_lost=partitions.lost,
            )
            while not self._stopping.is_set() and (plan.follow or not partitions.are_read):
                self._finish(consumer, steps, self._read(consumer))
                self._progress.report(lambda: partitions.behind(consumer))
        finally:
            # Leaves the group; what is not committed yet goes through the callback first.
            consumer.close()
        return self.totals

    def _wait_for_release(self) -> bool:
        """Wait for a release to score with; whether there is one, or else the end of the waiting.

        Raises:
            UserError: There is none, or the database does not answer, and nobody waits for it.
        """
        said: str | None = None
        while not self._stopping.is_set():
            try:
                self._scorer.refresh()
                obstacle = self._scorer.obstacle
            except DatabaseUnavailableError as error:
                if not self._plan.follow:
                    raise
                obstacle = str(error)
                self._find_database_again()
            if self._scorer.release is not None:
                return True
            if not self._plan.follow:
                raise PrerequisiteError(obstacle or "No release is loaded.")
            if obstacle != said:
                said = obstacle
                _LOGGER.warning("waiting for a release: %s", obstacle)
            self._stopping.wait(_REFRESH_SECONDS)
        return False

    def _read(self, consumer: Consumer) -> list[Message]:
        """Wait for a message and take with it what else is there."""
        first = consumer.poll(_POLL_SECONDS)
        if first is None:
            return []
        others = consumer.consume(self._plan.batch_size - 1, _GATHER_SECONDS)
        return [message for message in (first, *others) if self._has_row(message)]

    def _has_row(self, message: Message) -> bool:
        """Whether this is a message and not news about the topic.

        Raises:
            UserError: The brokers refuse this client.
            KafkaException: The consumer cannot go on.
        """
        error = message.error()
        partition = message.partition()
        if error is None and partition is not None:
            self._brokers.troubles.over()
            self._partitions.goes_on(partition)
            return True
        if error is None or partition is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            self._brokers.troubles.over()
            self._partitions.reached_end(partition)
            return False
        self._brokers.raise_if_refused(error, f"read topic {self._plan.topic}")
        if error.fatal():
            raise KafkaException(error)
        if error.code() in _TOPIC_MAY_BE_ANOTHER:
            self._is_identified = False
        self._brokers.troubles.note(error)
        return False

    def _finish(self, consumer: Consumer, steps: BatchSteps, messages: list[Message]) -> None:
        """Take messages through all steps, as often as it takes."""
        batch = MessageBatch(self._partitions.still_mine(messages))
        pause = _FIRST_PAUSE_SECONDS
        while batch.messages:
            try:
                self._keep_up()
                buried = steps.finish(batch, self._source)
            except _PASSING as error:
                self._raise_if_lasting(error)
                _LOGGER.warning(
                    "topic=%s %s cannot be finished (%s); trying again in %.1f s",
                    self._plan.topic,
                    batch.extent(),
                    _sentence(error),
                    pause,
                )
                self._hold(consumer, batch, pause)
                if self._stopping.is_set():
                    _LOGGER.warning("stopped before that; these messages will be read again")
                    return
                self._find_database_again()
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                self._partitions.done(batch.messages)
                self._partitions.commit(consumer)
                self.totals.scored += batch.scored
                self.totals.dead_letters += buried
                _LOGGER.debug(
                    "topic=%s %s scored=%d dead_letters=%d",
                    self._plan.topic,
                    batch.extent(),
                    batch.scored,
                    buried,
                )
                return

    def _keep_up(self) -> None:
        """Follow the newest deployment, and know which topic of this name it is."""
        if time.monotonic() >= self._refresh_at:
            self._scorer.refresh()
            self._refresh_at = time.monotonic() + _REFRESH_SECONDS
        if self._partitions.are_new or not self._is_identified:
            self._topic_id = self._brokers.topic_id(self._plan.topic)
            self._partitions.are_new, self._is_identified = False, True

    def _source(self, partition: int) -> str:
        """The name of a partition in the table of predictions.

        A topic that was deleted and made again has the same offsets once more, for other
        messages, but another identity.
        """
        name = f"kafka:{self._plan.topic}/{partition}"
        return f"{name}@{self._topic_id}" if self._topic_id is not None else name

    def _hold(self, consumer: Consumer, batch: MessageBatch, seconds: float) -> None:
        """Wait with a batch in hand, as a live member of the group that reads no more."""
        until = time.monotonic() + seconds
        paused: set[int] = set()
        while (left := until - time.monotonic()) > 0 and not self._stopping.is_set():
            # Again each time, since partitions that were assigned meanwhile are not paused.
            assigned = consumer.assignment()
            consumer.pause(assigned)
            paused |= {one.partition for one in assigned}
            message = consumer.poll(min(left, _POLL_SECONDS))
            if message is not None and self._has_row(message):
                batch.add(message)
        # Those that were lost meanwhile too, which would come back paused.
        consumer.resume([TopicPartition(self._plan.topic, one) for one in paused])
        batch.keep(self._partitions.still_mine)

    def _find_database_again(self) -> None:
        try:
            self._scorer.database_url = normalise_url(self._find_database(), "DATABASE_URL")
        except DatabaseUnavailableError as error:
            _LOGGER.warning("%s", error)

    def _raise_if_lasting(self, error: Exception) -> None:
        """Raise what does not pass by itself, and everything where nobody waits.

        Raises:
            UserError: The brokers refuse this client, or nobody waits for what failed.
            KafkaException: A client cannot go on.
        """
        if isinstance(error, KafkaException):
            self._brokers.raise_if_refused(error.args[0], "write dead letters")
            if error.args[0].fatal():
                raise error
        if not self._plan.follow:
            if isinstance(error, UserError):
                raise error
            raise PrerequisiteError(f"Scoring was interrupted: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return f"the brokers do not answer: {error.args[0].str()}"
    if isinstance(error, UserError):
        return str(error)
    original = error.orig if isinstance(error, DBAPIError) else error
    return f"the database does not answer: {' '.join(str(original).split())[:160]}"
