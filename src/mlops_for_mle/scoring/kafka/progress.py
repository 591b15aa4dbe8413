"""What a member of a consumer group has done, and a calm line about it now and then."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

_LOGGER = logging.getLogger(__name__)


@dataclass
class Totals:
    """What was done with messages.

    Attributes:
        scored: Messages whose predictions are in the table.
        dead_letters: Messages that went to the dead-letter topic.
    """

    scored: int = 0
    dead_letters: int = 0


class Progress:
    """Logs the totals every some seconds, as long as they change."""

    def __init__(self, topic: str, totals: Totals, seconds: float) -> None:
        """Begin to count the seconds."""
        self._topic = topic
        self._totals = totals
        self._seconds = seconds
        self._reported = 0
        self._since = time.monotonic()

    def report(self, count_waiting: Callable[[], int]) -> None:
        """Log a line if it is time for one; ``count_waiting`` is asked only then."""
        now = time.monotonic()
        if now - self._since < self._seconds:
            return
        done = self._totals.scored + self._totals.dead_letters
        waiting = count_waiting()
        if done > self._reported or waiting:
            _LOGGER.info(
                "topic=%s scored=%d rate=%.0f/s dead_letters=%d waiting=%d",
                self._topic,
                self._totals.scored,
                (done - self._reported) / (now - self._since),
                self._totals.dead_letters,
                waiting,
            )
        self._reported, self._since = done, now
