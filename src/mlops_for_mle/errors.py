"""Errors that a person can mend, and how any error is shown at the command line.

Whatever a library explains is shown as it says it, without a traceback, which ``--verbose`` shows.
A sentence of ours stands where a person would otherwise be misled.
"""

from collections.abc import Iterator


class UserError(Exception):
    """Something outside the code is wrong; the message says what, where and what to do."""


class ConfigurationError(UserError):
    """A parameter or environment variable is missing or has a value that is not allowed."""


class ReleaseError(UserError):
    """A release is missing, incomplete, altered or does not answer its own example."""


class NotCalledForError(UserError):
    """What was asked for is not needed now; the message says why. No failure."""


def explain(error: BaseException) -> str:
    """What an error says to a person: our sentence among its causes, else a library's words."""
    return our_sentence(error) or _words(error)


def our_sentence(error: BaseException) -> str | None:
    """What we say to an error, if anything: which package is missing, or what can be mended."""
    for one in causes(error):
        if isinstance(one, ModuleNotFoundError):
            return f"{one}: `uv sync --all-extras` installs whatever the project makes use of."
    return next((str(one) for one in causes(error) if isinstance(one, UserError)), None)


def is_not_called_for(error: BaseException) -> bool:
    """Whether what failed was only not needed."""
    return any(isinstance(one, NotCalledForError) for one in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that led to it."""
    following: BaseException | None = error
    while following is not None:
        yield following
        # OmegaConf hides what a resolver has raised.
        is_shown = type(following).__module__.startswith("omegaconf")
        is_hidden = following.__suppress_context__ and not is_shown
        following = following.__cause__ or (None if is_hidden else following.__context__)


def _words(error: BaseException) -> str:
    # Kedro and OmegaConf say where they have met with it, and a KeyError not even what it was.
    said = error
    for one in causes(error):
        is_met_with = type(one).__module__.startswith(("kedro.", "omegaconf."))
        if str(one) and not is_met_with and not isinstance(one, LookupError):
            # SQLAlchemy adds the statement to what the server says.
            said = getattr(one, "orig", None) or one
            break
    return f"{type(said).__name__}: {said}"
