"""What tests expect of errors that Kedro has wrapped in its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlops_for_mle.errors import UserError, causes


@dataclass
class Refusal:
    """The sentence that a person would see."""

    message: str = ""


@contextmanager
def refused(kind: type[UserError]) -> Iterator[Refusal]:
    """Expect an error of a kind, anywhere in the chain of causes, with a one-line message."""
    refusal = Refusal()
    try:
        yield refusal
    except Exception as error:
        found = next((cause for cause in causes(error) if isinstance(cause, kind)), None)
        if found is None:
            raise
        refusal.message = str(found)
        assert "\n" not in refusal.message
    else:
        raise AssertionError(f"no {kind.__name__} was raised")
