"""Errors that a person can mend, and how any error is shown at the command line.

Whatever a library explains is shown as it says it: the last cause, without a traceback, which
``--verbose`` shows. A sentence of ours stands where a person would otherwise be misled.
"""

from collections.abc import Iterator

EXTRAS = {
    "confluent_kafka": "kafka",
    "dask": "scale",
    "distributed": "scale",
    "lightgbm": "boosting",
    "onnxmltools": "boosting",
    "openpyxl": "excel",
    "s3fs": "s3",
}
"""Which extra has a package that only some need."""


class UserError(Exception):
    """Something outside the code is wrong; the message says what, where and what to do."""


class ConfigurationError(UserError):
    """A parameter or environment variable is missing or has a value that is not allowed."""


class ReleaseError(UserError):
    """A release is missing, incomplete, altered or does not answer its own example."""


class NotCalledForError(UserError):
    """What was asked for is not needed now; the message says why. No failure."""


def explain(error: BaseException) -> str:
    """What an error says to a person: our sentence among its causes, else its last cause."""
    return our_sentence(error) or _last_cause(error)


def our_sentence(error: BaseException) -> str | None:
    """What we say to an error, if anything: which extra is missing, or what a person can mend."""
    for one in causes(error):
        package = (getattr(one, "name", None) or "").partition(".")[0]
        if isinstance(one, ModuleNotFoundError) and package in EXTRAS:
            return f"{package} is missing: run `uv sync --extra {EXTRAS[package]}`."
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


def _last_cause(error: BaseException) -> str:
    # SQLAlchemy keeps the driver's error, beneath which only its own connection pool is found.
    drivers = [getattr(one, "orig", None) for one in causes(error)]
    # A missing key or a refused connection says less than what was made of it.
    telling = [one for one in causes(error) if not _is_bare(one)]
    last = ([one for one in drivers if isinstance(one, Exception)] or telling or [error])[-1]
    if isinstance(last, OSError) and (last.errno or type(last) is OSError):
        return str(last)
    return f"{type(last).__name__}: {last}"


def _is_bare(error: BaseException) -> bool:
    package = type(error).__module__.partition(".")[0]
    is_known = isinstance(error, LookupError | ConnectionError)
    return is_known or package in {"distributed", "requests", "urllib3"} or not str(error)
