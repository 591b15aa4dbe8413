"""What goes wrong with a place for files, as one sentence: each kind has errors of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlops_for_mle.errors import UserError


@contextmanager
def usable(place: str) -> Iterator[None]:
    """Let a block read or write files, here or at any URL that fsspec opens.

    Raises:
        UserError: It cannot, for lack of credentials, of a package or of an answer.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{place} cannot be used: {reason}") from error
