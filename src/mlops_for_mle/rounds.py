"""Does something again and again: at a steady pace, and more seldom while it fails."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from mlops_for_mle.errors import NotCalledForError, UserError
from mlops_for_mle.stop_signal import Stopping

_LONGEST_PAUSE = timedelta(hours=6)

_LOGGER = logging.getLogger(__name__)


def pause_after(failures: int, every: timedelta) -> timedelta:
    """The time between the starts of two rounds, after so many failed ones in a row."""
    longest = max(every, _LONGEST_PAUSE)
    # The exponent is bounded, since the product must not overflow.
    doubled: timedelta = every * (1 << min(failures, 20))
    return min(doubled, longest)


class Patience:
    """Work that is asked for often and, while it fails, done more and more seldom."""

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        every: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Fail nothing yet.

        Args:
            name: What it is, for people.
            work: What is done.
            every: The time between two tries before any has failed.
            clock: Gives seconds that only grow.
        """
        self.failures = 0
        self._name = name
        self._work = work
        self._every = every
        self._clock = clock
        self._due_at = 0.0

    def work(self) -> None:
        """Do the work, unless it has failed too short a time ago; a failure is logged."""
        started = self._clock()
        if self.failures and started < self._due_at:
            _LOGGER.info(
                "%s failed %d times in a row; it is tried again in %.0f s",
                self._name,
                self.failures,
                self._due_at - started,
            )
            return
        if _succeeds(self._work, self._name):
            self.failures = 0
            return
        self.failures += 1
        pause = pause_after(self.failures, self._every).total_seconds()
        # It is asked for about every so often: a second too early is not another time too late.
        self._due_at = started + pause - self._every.total_seconds() / 2
        _LOGGER.warning(
            "%s: %d failed in a row; it is tried again after %.0f s",
            self._name,
            self.failures,
            pause,
        )

    def forget(self) -> None:
        """Take the next work for another one, which has not failed yet."""
        self.failures = 0


def repeat(
    work: Callable[[], None],
    every: timedelta,
    stopping: Stopping,
    limit: int | None = None,
) -> int:
    """Do rounds of work until ``stopping`` is set or the limit is reached.

    A round that fails is logged and does not end the loop; each one that follows another failed
    one waits twice as long as the one before.

    Args:
        work: One round.
        every: Time between the starts of two rounds.
        stopping: Ends the loop after the round that is under way.
        limit: How many rounds; None goes on until it is stopped.

    Returns:
        How many of the rounds failed.
    """
    failures = failed = done = 0
    while not stopping.is_set():
        started = time.monotonic()
        failures = 0 if _succeeds(work, "the round") else failures + 1
        failed += failures > 0
        done += 1
        if limit is not None and done >= limit:
            break
        pause = pause_after(failures, every).total_seconds()
        if failures:
            _LOGGER.warning("%d failed in a row; the next round begins in %.0f s", failures, pause)
        stopping.wait(max(0.0, started + pause - time.monotonic()))
    return failed


def _succeeds(work: Callable[[], None], name: str) -> bool:
    try:
        work()
    except NotCalledForError as error:
        # Somebody else has done it.
        _LOGGER.info("%s", error)
        return True
    except UserError as error:
        _LOGGER.warning("%s", error)
    except Exception:
        _LOGGER.exception("%s failed", name)
    else:
        return True
    return False
