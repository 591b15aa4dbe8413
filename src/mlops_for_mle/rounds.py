"""Does something again and again: at a steady pace, and more seldom while it fails."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from mlops_for_mle.errors import UserError
from mlops_for_mle.stop_signal import Stopping

_LONGEST_PAUSE = timedelta(hours=6)

_LOGGER = logging.getLogger(__name__)


def pause_after(failures: int, every: timedelta) -> timedelta:
    """The time between the starts of two rounds, after so many failed ones in a row."""
    longest = max(every, _LONGEST_PAUSE)
    # The exponent is bounded, since the product must not overflow.
    doubled: timedelta = every * (1 << min(failures, 20))
    return min(doubled, longest)


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
        try:
            work()
        except UserError as error:
            failures += 1
            _LOGGER.warning("%s", error)
        except Exception:
            failures += 1
            _LOGGER.exception("the round failed")
        else:
            failures = 0
        failed += failures > 0
        done += 1
        if limit is not None and done >= limit:
            break
        pause = pause_after(failures, every).total_seconds()
        if failures:
            _LOGGER.warning("%d failed in a row; the next round begins in %.0f s", failures, pause)
        stopping.wait(max(0.0, started + pause - time.monotonic()))
    return failed
