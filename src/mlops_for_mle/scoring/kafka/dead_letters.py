"""Writes bad messages to the dead-letter topic, as they were and with what is wrong with them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from mlops_for_mle.scoring.kafka.messages import written_at

HEADER_PREFIX = "dead_letter."

_REASON_BYTES = 4096

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that cannot be scored, and why."""

    message: Message
    reason: str


class DeadLetterWriter:
    """Writes to the dead-letter topic.

    A dead letter has the key, the value and the headers of its message. Added are the headers
    ``dead_letter.reason``, ``.topic``, ``.partition``, ``.offset``, ``.timestamp`` (of the
    message, ISO 8601, UTC) and ``.group``. A value that is too large for the topic is left out,
    which the header ``dead_letter.omitted_bytes`` tells.
    """

    def __init__(self, producer: Producer, topic: str, group: str) -> None:
        """Name the topic, and the group that reads the source."""
        self._producer = producer
        self._topic = topic
        self._group = group

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Write dead letters, at least one, and wait until the brokers have them all.

        Raises:
            KafkaException: They do not have them all; those that they have may be written again.
        """
        refused = self._deliver(letters, with_values=True)
        if refused:
            self._deliver(refused, with_values=False)
        first = letters[0].message
        _LOGGER.warning(
            "topic=%s partition=%s offset=%s is a dead letter: %s%s",
            first.topic(),
            first.partition(),
            first.offset(),
            letters[0].reason,
            f" (so are {len(letters) - 1} more of its batch)" if len(letters) > 1 else "",
        )

    def _deliver(self, letters: Sequence[DeadLetter], with_values: bool) -> list[DeadLetter]:
        """Write dead letters; gives those whose values are too large."""
        failures: list[tuple[DeadLetter, KafkaError]] = []
        for letter in letters:
            self._produce(letter, with_values, failures)
        # Each message is delivered or has failed when its time is over.
        self._producer.flush()
        too_large = []
        for letter, error in failures:
            if not with_values or error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise KafkaException(error)
            too_large.append(letter)
        return too_large

    def _produce(
        self,
        letter: DeadLetter,
        with_value: bool,
        failures: list[tuple[DeadLetter, KafkaError]],
    ) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            del message
            if error is not None:
                failures.append((letter, error))

        message = letter.message
        value = message.value()
        headers = [*(message.headers() or []), *self._headers(letter)]
        if not with_value:
            size = str(len(value or b""))
            headers.append((f"{HEADER_PREFIX}omitted_bytes", size.encode()))
            value = None
        while True:
            try:
                self._producer.produce(
                    self._topic, value, message.key(), headers=headers, on_delivery=delivered
                )
            except BufferError:
                self._producer.poll(0.5)
            except KafkaException as exception:
                failures.append((letter, exception.args[0]))
                return
            else:
                return

    def _headers(self, letter: DeadLetter) -> list[tuple[str, bytes]]:
        message = letter.message
        written = written_at(message)
        facts = {
            "reason": letter.reason,
            "topic": message.topic(),
            "partition": str(message.partition()),
            "offset": str(message.offset()),
            "timestamp": f"{written.isoformat()}Z" if written is not None else None,
            "group": self._group,
        }
        return [
            (HEADER_PREFIX + name, fact.encode("utf-8", "backslashreplace")[:_REASON_BYTES])
            for name, fact in facts.items()
            if fact is not None
        ]
