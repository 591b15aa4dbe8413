import errno
from itertools import pairwise

import click
import pytest
from click.testing import CliRunner, Result
from joblib import Parallel, delayed, parallel_config
from kedro.framework.cli.utils import KedroCliError
from kedro.io import DatasetError
from mlflow.exceptions import MlflowException
from omegaconf.errors import InterpolationResolutionError

from mlops_for_mle.cli import ProjectCommands, errors_as_sentences
from mlops_for_mle.errors import ConfigurationError, NothingToDoError, UserError


def told(*causes: Exception) -> Result:
    """What a command says that ends with an error, the first of these, and what led to it."""
    for error, cause in pairwise(causes):
        error.__cause__ = cause

    @click.command()
    @errors_as_sentences()
    def command() -> None:
        raise causes[0]

    return CliRunner().invoke(command)


@pytest.mark.parametrize("kind", [UserError, MlflowException])
def test_no_password_of_a_url_is_shown(kind):
    address = "://me:hunter2@127.0.0.1:1/releases"
    result = told(kind(f"ftp{address} cannot be read: no answer of http{address}"))

    assert "ftp://me:***@127.0.0.1:1/releases" in result.output
    assert "hunter2" not in result.output


@pytest.mark.parametrize("before", [(), (ValueError("wrapped"),), (OSError("outer"),)])
@pytest.mark.parametrize("after", [(), (KeyError("key"),)])
def test_our_sentence_is_shown_wherever_it_stands_among_the_causes(before, after):
    result = told(*before, ConfigurationError("key: is missing"), *after)

    assert (result.exit_code, result.output) == (1, "Error: key: is missing\n")


@pytest.mark.parametrize(
    "last",
    [
        ValueError("Pipeline contains no nodes after applying all provided filters."),
        PermissionError(errno.EACCES, "Permission denied", "/data"),
        MlflowException("API request to http://127.0.0.1:1/ failed"),
    ],
)
def test_what_a_library_says_last_is_shown_without_a_traceback(last):
    result = told(DatasetError("outer"), last)

    assert result.exit_code == 1
    assert str(last) in result.output
    assert "outer" not in result.output
    assert "Traceback" not in result.output


def test_an_error_without_words_is_told_by_what_was_made_of_it():
    for last in (AttributeError(), KeyError("x")):
        assert "Failed to load x" in told(DatasetError("Failed to load x"), last).output
    with pytest.raises(KeyError) as caught, parallel_config("threading"):
        Parallel(n_jobs=2)([delayed({}.__getitem__)("x")])
    assert "Traceback" not in told(caught.value).output
    outer = InterpolationResolutionError("where it was asked for")
    assert told(outer, OSError("what it was")).output.startswith("Error: OSError: what it was")


def test_what_a_command_of_kedro_refuses_is_said():
    assert told(KedroCliError("no such pipeline")).output == "Error: no such pipeline\n"


def test_what_is_not_called_for_is_no_failure(monkeypatch):
    monkeypatch.setattr(KedroCliError, "VERBOSE_ERROR", True)

    calm = told(NothingToDoError("nothing to do"))

    assert (calm.exit_code, calm.output) == (0, "nothing to do\n")


@click.group()
def failing() -> None:
    """A group of commands."""


@failing.command()
def now() -> None:
    raise ValueError("inner")


def test_the_option_that_an_error_names_shows_where_it_came_from():
    commands = ProjectCommands("kedro", lazy_subcommands={"failing": f"{__name__}.failing"})

    said = CliRunner().invoke(commands, ["failing", "now"]).output

    assert said == "Error: ValueError: inner (where it came from: kedro failing --verbose …)\n"
    shown = CliRunner().invoke(commands, ["failing", "--verbose", "now"])
    assert isinstance(shown.exception, ValueError)
    assert CliRunner().invoke(commands, ["failing", "now"]).output == said
