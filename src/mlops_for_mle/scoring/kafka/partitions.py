"""What a member of a consumer group knows of its partitions."""

import logging
from collections.abc import Collection, Iterable

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

_LOGGER = logging.getLogger(__name__)


class Partitions:
    """The partitions of one topic that this member reads, and how far it has come in each.

    ``assigned``, ``revoked`` and ``lost`` are the callbacks of the consumer, which calls them
    while it is polled.

    Attributes:
        topic: The topic's name.
        are_new: Whether partitions were assigned since somebody last set it to False.
    """

    def __init__(self, topic: str) -> None:
        """Begin without any partition."""
        self.topic = topic
        self.are_new = False
        self._mine: set[int] | None = None
        self._ended: set[int] = set()
        self._done: dict[int, int] = {}

    def assigned(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        """Take over partitions, which begin at their committed offsets."""
        del consumer
        found = {one.partition for one in given}
        self._mine = (self._mine or set()) | found
        self._ended -= found
        self.are_new = True
        _LOGGER.info("topic=%s partitions=%s were assigned", self.topic, _listed(found))

    def revoked(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        """Commit what is done in partitions that go to other members, and let go of them."""
        self.commit(consumer)
        self._forget(given)
        _LOGGER.info("topic=%s partitions=%s were given back", self.topic, _listed_of(given))

    def lost(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        """Let go of partitions that other members have had for a while."""
        del consumer
        self._forget(given)
        _LOGGER.warning("topic=%s partitions=%s were lost", self.topic, _listed_of(given))

    def still_mine(self, messages: Iterable[Message]) -> list[Message]:
        """Those messages whose partitions were not given away since they were read."""
        return [message for message in messages if message.partition() in (self._mine or ())]

    def reached_end(self, partition: int) -> None:
        """Note that a partition has no further message at the moment."""
        self._ended.add(partition)

    def goes_on(self, partition: int) -> None:
        """Note that a message of a partition was read."""
        self._ended.discard(partition)

    @property
    def are_read(self) -> bool:
        """Whether partitions were assigned and each has been read to its end."""
        return self._mine is not None and self._mine <= self._ended

    def done(self, messages: Collection[Message]) -> None:
        """Note that messages need not be read again."""
        for message in messages:
            partition, following = _position(message)
            self._done[partition] = max(self._done.get(partition, 0), following)

    def commit(self, consumer: Consumer) -> bool:
        """Commit what is done.

        Returns:
            Whether nothing is left to be committed. What is left goes with the next commit, or is
            read again by whoever gets the partition.
        """
        if not self._done:
            return True
        offsets = [
            TopicPartition(self.topic, partition, offset)
            for partition, offset in self._done.items()
        ]
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as exception:
            _LOGGER.warning(
                "topic=%s offsets=%s could not be committed (%s); they will be",
                self.topic,
                ", ".join(f"{one.partition}:{one.offset}" for one in offsets),
                exception.args[0].str(),
            )
            return False
        self._done.clear()
        return True

    def behind(self, consumer: Consumer) -> int:
        """How many messages of the partitions were not read yet, as far as is known."""
        mine = [TopicPartition(self.topic, partition) for partition in self._mine or ()]
        waiting = 0
        for place in consumer.position(mine):
            _, end = consumer.get_watermark_offsets(place, cached=True)
            if place.offset >= 0 and end > place.offset:
                waiting += end - place.offset
        return waiting

    def _forget(self, given: Iterable[TopicPartition]) -> None:
        for one in given:
            (self._mine or set()).discard(one.partition)
            self._done.pop(one.partition, None)


def _position(message: Message) -> tuple[int, int]:
    """A message's partition, and the offset behind it."""
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None:
        raise ValueError("a message that was read has a partition and an offset")
    return partition, offset + 1


def _listed(partitions: Iterable[int]) -> str:
    return ",".join(map(str, sorted(partitions))) or "none"


def _listed_of(given: Iterable[TopicPartition]) -> str:
    return _listed(one.partition for one in given)
