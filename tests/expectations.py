"""What tests expect of commands, and of errors that Kedro has wrapped in its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from mlops_for_mle.errors import UserError, causes


def succeed(*command: str | Path) -> str:
    """Run a command that must end well; gives what it says."""
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


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
