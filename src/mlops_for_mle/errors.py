"""Errors that a person can mend, and how any error is shown at the command line.

Whatever a library explains is shown as it says it, without a traceback, which ``--verbose`` shows.
A sentence of ours stands where a person would otherwise be misled.
"""

import re
from collections.abc import Iterator

# Passwords in URLs, and API keys.
_SECRETS = re.compile(
    r"(?P<url>://[^\s:/@\"']*:)[^\s@\"']+(?=@)|(?P<key>\bmlops_)[A-Za-z0-9_-]{43}\b"
)


class UserError(Exception):
    """Something outside the code is wrong; the message says what, where and what to do."""


class ConfigurationError(UserError):
    """A parameter or environment variable is missing or has a value that is not allowed."""


class ReleaseError(UserError):
    """A release is missing, incomplete, altered or does not answer its own example."""


class NothingToDoError(UserError):
    """What was asked for is not needed now; the message says why. No failure."""


def error_message(error: BaseException) -> str:
    """What an error says to a person: our sentence among its causes, else a library's message."""
    if sentence := user_message(error):
        return sentence
    # Kedro and OmegaConf say only where the error came up, joblib adds a traceback as its cause,
    # and a KeyError does not even say what it is.
    shown = error
    for cause in causes(error):
        is_wrapper = type(cause).__module__.startswith(("kedro.", "omegaconf.", "joblib."))
        if str(cause) and not is_wrapper and not isinstance(cause, LookupError):
            # SQLAlchemy adds the statement to what the server says.
            shown = getattr(cause, "orig", None) or cause
            break
    # PostgreSQL repeats what a block of ours has asked it.
    message = str(shown).partition("\nQUERY: ")[0].strip()
    return without_secrets(f"{type(shown).__name__}: {message}")


def user_message(error: BaseException) -> str | None:
    """Our message for an error that a person can mend, if any."""
    sentences = (str(cause) for cause in causes(error) if isinstance(cause, UserError))
    return next(map(without_secrets, sentences), None)


def without_secrets(text: str) -> str:
    """A text without the passwords of URLs, as of a store or a tracking server, and API keys."""
    return _SECRETS.sub(lambda match: f"{match[match.lastgroup or 0]}***", text)


def is_nothing_to_do(error: BaseException) -> bool:
    """Whether the error only says that there was nothing to do."""
    return any(isinstance(cause, NothingToDoError) for cause in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that led to it."""
    following: BaseException | None = error
    while following is not None:
        yield following
        # OmegaConf hides what a resolver has raised.
        is_omegaconf = type(following).__module__.startswith("omegaconf")
        is_hidden = following.__suppress_context__ and not is_omegaconf
        following = following.__cause__ or (None if is_hidden else following.__context__)
