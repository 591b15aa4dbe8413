"""What tests expect of commands, and of errors that Kedro has wrapped in its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlops_for_mle.errors import UserError, causes


def run(*command: Any, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, however it ends, and keep what it says."""
    line = [*map(str, command)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def succeed(*command: Any, **options: Any) -> str:
    """Run a command that must end well; gives what it says."""
    finished = run(*command, **options)
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
