"""What a failed check says: a hint in the learner's language, and what was found, no traceback."""

import os
import re
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Hint(Exception):  # noqa: N818
    """A check that failed; the text is what the learner reads."""


class StillRunning(BaseException):
    """What takes too long; no ``except Exception`` of the learner swallows it."""


def say(english: str, korean: str) -> str:
    """The text in the language of ``HINTS``, or else of the locale."""
    variables = ("HINTS", "LC_ALL", "LC_MESSAGES", "LANG")
    named = next(filter(None, map(os.environ.get, variables)), "")
    return korean if named.startswith("ko") else english


@contextmanager
def hint(english: str, korean: str) -> Iterator[None]:
    """Whatever goes wrong inside is told by this hint.

    A step that is still to be written goes before it, and so does a file that is no Python.
    """
    try:
        yield
    except (Hint, NotImplementedError, SyntaxError):
        raise
    except (Exception, SystemExit, StillRunning, pytest.fail.Exception) as error:
        raise Hint(say(english, korean)) from error


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupt what runs longer, such as a loop of the learner that never ends."""

    def interrupt(*_: object) -> None:
        raise StillRunning(say(f"after {seconds:g} s", f"{seconds:g}초가 지나도 끝나지 않음"))

    former = signal.signal(signal.SIGALRM, interrupt)
    # Again each second: the learner may catch even this.
    rest, _ = signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, former)
        signal.setitimer(signal.ITIMER_REAL, rest, 1 if rest else 0)


def explain(error: BaseException, work: Path) -> list[str]:
    """The lines that a learner reads of an error in a check."""
    if isinstance(error, Hint):
        cause = error.__cause__
        if written := re.search(r"NotImplementedError: (step \d+)", str(cause)):
            return explain(NotImplementedError(written[1]), work)
        return [str(error), *(explain(cause, work) if cause else [])]
    place = _place(error, work)
    if isinstance(error, NotImplementedError):
        step = "".join(re.findall(r"\d+", str(error))[:1]) or "?"
        kedro = place.startswith("kedro_")
        section = (
            say("Make it Kedro", "Kedro로 옮기기") if kedro else say("its section", "해당 단계")
        )
        where = f"({place})" if place else ""
        return [
            say(
                f"Step {step} is still to be written{where and ' ' + where}: see {section} in the README.",
                f"{step}단계를 아직 작성하지 않았습니다{where}. README의 {section}를 보십시오.",
            )
        ]
    said = (error.msg if isinstance(error, SyntaxError) else str(error)).strip()
    # What pytest found in place of the pattern stands below its first line.
    found = re.search(r"^ *Actual message: (.+)$", said, re.M)
    said = f"found {found[1]}" if found else said.partition("\n")[0]
    if isinstance(error, AssertionError | pytest.fail.Exception):
        return [said] if said else []
    return [f"{place}: {type(error).__name__}: {said}".removeprefix(": ")]


def _place(error: BaseException, work: Path) -> str:
    """The line of the learner's own program that raised the error; empty where none did."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(work)]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
