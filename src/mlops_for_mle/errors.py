"""Errors that a person can mend, and how any error is shown at the command line.

Whatever a library explains is shown as it says it: the last cause, without a traceback; ``kedro
--verbose`` shows that, too. A sentence of ours stands where a person would otherwise be misled.
"""

import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import click

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class UserError(Exception):
    """Something outside the code is wrong; the message says what, where and what to do."""


class ConfigurationError(UserError):
    """A parameter or environment variable is missing or has a value that is not allowed."""


class PrerequisiteError(UserError):
    """An earlier step has not run; the message names the command to run first."""


class SourceError(UserError):
    """The source of a batch cannot be read at all, so nothing of it was written."""


class ReleaseError(UserError):
    """A release is missing, incomplete, altered or does not answer its own example."""


class NotCalledForError(UserError):
    """What was asked for is not needed now; the message says why. No failure."""


def friendly(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Have a command end with one sentence and exit status 1 instead of a traceback.

    What is merely not called for ends with exit status 0.
    """

    @functools.wraps(function)
    def wrapped(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        try:
            return function(*args, **options)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from kedro.framework.cli.utils import KedroCliError

            if KedroCliError.VERBOSE_ERROR:
                raise
            sentence = explain(error)
            if isinstance(_ours(error), NotCalledForError):
                click.echo(sentence)
                raise click.exceptions.Exit(0) from error
            raise click.ClickException(sentence) from error

    return wrapped


def explain(error: BaseException) -> str:
    """What an error says to a person: our sentence among its causes, else its last cause."""
    ours = _ours(error)
    if ours is not None:
        return str(ours)
    # SQLAlchemy keeps the driver's error, beneath which only its own connection pool is found.
    drivers = [getattr(one, "orig", None) for one in causes(error)]
    *_, last = [one for one in drivers if isinstance(one, Exception)] or causes(error)
    if hasattr(last, "errors") and callable(last.errors):
        return "\n".join(_explain_fields(last.errors()))
    if isinstance(last, OSError):
        return str(last)
    return f"{type(last).__name__}: {last} (where it came from: kedro --verbose …)"


def _ours(error: BaseException) -> UserError | None:
    return next((one for one in causes(error) if isinstance(one, UserError)), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that led to it."""
    following: BaseException | None = error
    while following is not None:
        yield following
        is_hidden = following.__suppress_context__
        following = following.__cause__ or (None if is_hidden else following.__context__)


def _explain_fields(problems: list[dict[str, object]]) -> Iterator[str]:
    """One line for each field that Pydantic refuses."""
    for problem in problems:
        place = problem["loc"]
        key = ".".join(str(one) for one in place) if isinstance(place, tuple) else str(place)
        found = repr(problem.get("input"))
        yield f"{key}: {problem['msg']} (found {found[:80]})"
