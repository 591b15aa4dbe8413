"""What goes wrong with stores of files and with MLflow as one sentence; each has own errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlops_for_mle.errors import UserError


@contextmanager
def usable(what: str) -> Iterator[None]:
    """Let a block use something that is reached by a library with errors of its own.

    Args:
        what: Begins the sentence: a folder or URL of files, or MLflow.

    Raises:
        UserError: It cannot be used, for lack of credentials, of a package or of an answer.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} cannot be used: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """What an error says, in one line and without the statement that SQLAlchemy adds."""
    told = " ".join(str(error).split()).partition(" [SQL: ")[0]
    return told.partition(" (Background on this error")[0] or type(error).__name__
