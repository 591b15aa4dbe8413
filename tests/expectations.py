"""What tests expect of commands, and of errors that Kedro has wrapped in its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_for_mle.errors import UserError, causes


def succeed(*command: str | Path) -> str:
    """Run a command that must end well; gives what it says."""
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@contextmanager
def refused(kind: type[UserError], *words: str) -> Iterator[None]:
    """Expect an error of a kind among the causes, whose one line, which people see, has these."""
    try:
        yield
    except Exception as error:
        found = next((cause for cause in causes(error) if isinstance(cause, kind)), None)
        if found is None:
            raise
        message = str(found)
        assert "\n" not in message
        assert all(one in message for one in words), message
    else:
        raise AssertionError(f"no {kind.__name__} was raised")
