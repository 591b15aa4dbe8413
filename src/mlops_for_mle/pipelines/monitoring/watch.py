"""Looks at the deployed release again and again, and retrains it when that is called for."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from mlops_for_mle.errors import NotCalledForError, explain

_LONGEST_PAUSE = timedelta(hours=6)

_LOGGER = logging.getLogger(__name__)


class Watch:
    """Two kinds of work: looking, at a steady pace, and what a look calls for.

    Whatever fails, a lost database for example, is said and tried again, more and more seldom.
    While a retraining waits for its next try, looks go on at their pace.
    """

    def __init__(
        self,
        look: Callable[[], bool],
        retrain: Callable[[], None],
        every: timedelta,
        rounds: int | None = None,
    ) -> None:
        """Say what is done.

        Args:
            look: Monitors, and gives whether that calls for a retraining.
            retrain: Retrains; raises ``NotCalledForError`` where it turns out to be needless.
            every: The time from one look to the next.
            rounds: How many looks; None goes on until somebody stops it.
        """
        self._look = look
        self._retrain = retrain
        self._every = every.total_seconds()
        self._left = float("inf") if rounds is None else rounds

    def run(self) -> None:
        """Watch.

        Raises:
            Exception: What the last of the rounds has failed with.
        """
        while True:
            if self._patiently(time.sleep, self._look_once):
                self._patiently(self._keep_looking, self._retrain_once)
            if not self._left:
                return
            time.sleep(self._every)

    def _patiently(self, pause: Callable[[float], None], work: Callable[[], bool]) -> bool:
        longest = max(self._every, _LONGEST_PAUSE.total_seconds())
        retrying = Retrying(
            retry=retry_if_exception_type(Exception),
            wait=wait_exponential(multiplier=self._every, max=longest),
            stop=lambda state: not self._left,
            sleep=pause,
            before_sleep=_tell,
            reraise=True,
        )
        return retrying(work)

    def _look_once(self) -> bool:
        self._left -= 1
        return self._look()

    def _retrain_once(self) -> bool:
        try:
            self._retrain()
        except NotCalledForError as error:
            # Somebody else has done it, or what it was called for has passed.
            _LOGGER.info("%s", error)
        return True

    def _keep_looking(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._left and time.monotonic() < until:
            time.sleep(min(self._every, seconds))
            self._patiently(time.sleep, self._look_once)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    pause = state.next_action.sleep if state.next_action is not None else 0.0
    if error is not None:
        _LOGGER.warning("%s; tried again in %.0f s", " ".join(explain(error).split()), pause)
