"""What tests expect of errors that Kedro has wrapped in its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from mlops_for_mle.errors import UserError, causes


@contextmanager
def refused(kind: type[UserError]) -> Iterator[SimpleNamespace]:
    """Expect an error of a kind among the causes; its one-line ``message`` is what people see."""
    refusal = SimpleNamespace(message="")
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
