"""Takes one batch of messages through all steps, in an order in which nothing can be lost."""

from collections.abc import Callable, Sequence
from typing import cast

from confluent_kafka import Message
from psycopg2.extensions import cursor as Cursor  # noqa: N812  (a class of C code)

from mlops_for_mle.contract import Contract
from mlops_for_mle.database import engine_for
from mlops_for_mle.scoring.kafka.dead_letters import DeadLetter, DeadLetterWriter
from mlops_for_mle.scoring.kafka.messages import (
    BadMessageError,
    MessageReader,
    MessageRow,
    written_at,
)
from mlops_for_mle.scoring.prediction_store import PredictionStore
from mlops_for_mle.scoring.scorer import ReleaseScorer


class MessageBatch:
    """Some messages and which steps they have behind them, so that no step is done twice.

    Attributes:
        messages: The messages, in the order in which they were read.
        letters: Those of them that are bad and not in the dead-letter topic yet; None before they
            were scored.
        scored: How many of them were scored.
    """

    def __init__(self, messages: list[Message]) -> None:
        """Begin before the first step."""
        self.messages = messages
        self.letters: list[DeadLetter] | None = None
        self.scored = 0

    def add(self, message: Message) -> None:
        """Add a message that was read while the batch waited; what was done is done again."""
        self.messages.append(message)
        self.letters = None

    def extent(self) -> str:
        """The partitions and offsets of the messages, for people."""
        places: dict[int | None, list[int]] = {}
        for message in self.messages:
            places.setdefault(message.partition(), []).append(message.offset() or 0)
        return " ".join(
            f"partition={partition} offsets={min(offsets)}-{max(offsets)}"
            for partition, offsets in places.items()
        )

    def keep(self, still_mine: Callable[[Sequence[Message]], list[Message]]) -> None:
        """Drop the messages whose partitions were given away, which others read again."""
        self.messages = still_mine(self.messages)
        if self.letters is not None:
            kept = {id(message) for message in self.messages}
            self.letters = [letter for letter in self.letters if id(letter.message) in kept]


class BatchSteps:
    """Scores a batch, writes its predictions, then its dead letters."""

    def __init__(
        self,
        contract: Contract,
        scorer: ReleaseScorer,
        dead_letters: DeadLetterWriter,
    ) -> None:
        """Join the parts; the scorer's URL is the database that is written to."""
        self._reader = MessageReader(contract)
        self._scorer = scorer
        self._store = PredictionStore(contract)
        self._dead_letters = dead_letters

    def finish(self, batch: MessageBatch, source: Callable[[int], str]) -> int:
        """Take a batch through the steps that it does not have behind it.

        Args:
            batch: The messages; it keeps what was done, so that a call may be repeated.
            source: The name under which the table of predictions knows a partition.

        Returns:
            How many messages went to the dead-letter topic.

        Raises:
            PrerequisiteError: No release is loaded.
            psycopg2.Error: The database does not take the predictions; none was written.
            KafkaException: The brokers do not take the dead letters.
        """
        if batch.letters is None:
            batch.letters = self._score_and_write(batch, source)
        buried = len(batch.letters)
        if batch.letters:
            self._dead_letters.write(batch.letters)
            batch.letters = []
        return buried

    def _score_and_write(
        self, batch: MessageBatch, source: Callable[[int], str]
    ) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        partitions: dict[int, list[tuple[Message, MessageRow]]] = {}
        for message in batch.messages:
            try:
                row = self._reader.read(message.value())
            except BadMessageError as error:
                letters.append(DeadLetter(message, str(error)))
            else:
                partitions.setdefault(cast(int, message.partition()), []).append((message, row))
        if not partitions:
            return letters
        scored = 0
        with engine_for(self._scorer.database_url).begin() as connection:
            cursor = cast(Cursor, connection.connection.cursor())
            for partition, rows in partitions.items():
                rejected = self._write(cursor, source(partition), rows)
                letters += rejected
                scored += len(rows) - len(rejected)
        batch.scored = scored
        return letters

    def _write(
        self, cursor: Cursor, source: str, rows: Sequence[tuple[Message, MessageRow]]
    ) -> list[DeadLetter]:
        """Write the rows of a partition that fit the contract; gives those that do not."""
        scored = self._scorer.score([row.values for _, row in rows])
        self._store.write_predictions(
            cursor,
            source,
            [cast(int, message.offset()) for message, _ in rows],
            [_observed_at(message, row) for message, row in rows],
            scored,
            [row.key for _, row in rows],
        )
        return [DeadLetter(rows[one.position][0], one.reason) for one in scored.rejected]


def _observed_at(message: Message, row: MessageRow) -> str | None:
    """The row's own time, else that of its message."""
    found = row.timestamp or written_at(message)
    return found.isoformat() if found is not None else None
