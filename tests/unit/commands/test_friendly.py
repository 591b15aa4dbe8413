import errno

import click
import pytest
from botocore.exceptions import NoCredentialsError
from click.testing import CliRunner
from kedro.io import DatasetError
from kedro.validation.exceptions import ParameterValidationError
from mlflow.exceptions import MlflowException
from omegaconf.errors import InterpolationKeyError

from mlops_for_mle.commands.friendly import causes, friendly
from mlops_for_mle.errors import ConfigurationError, UserError


def command_that_raises(error: Exception) -> click.Command:
    @click.command()
    @friendly
    def command() -> None:
        raise error

    return command


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("key: is missing"),
        caused_by(ValueError("wrapped"), ConfigurationError("key: is missing")),
        caused_by(ValueError("wrapped"), ParameterValidationError("key:\n  is missing")),
        InterpolationKeyError("key: is missing"),
        caused_by(InterpolationKeyError("wrapped"), ConfigurationError("key: is missing")),
        caused_by(
            OSError("outer"), caused_by(ValueError("inner"), ConfigurationError("key: is missing"))
        ),
    ],
)
def test_a_persons_mistake_is_one_sentence_and_exit_code_1(error: Exception) -> None:
    result = CliRunner().invoke(command_that_raises(error), standalone_mode=True)

    assert result.exit_code == 1
    assert result.output == "Error: key: is missing\n"


@pytest.mark.parametrize(
    "error",
    [
        DatasetError("Catalog entry 'rows' is not a valid dataset configuration."),
        DatasetError("An exception occurred when parsing config for dataset 'rows': no type"),
        ValueError("Duplicate keys found in a.yml and b.yml: mine"),
        ValueError("Pipeline contains no nodes after applying all provided filters."),
        PermissionError(errno.EACCES, "Permission denied", "/data"),
        OSError(errno.ENOSPC, "No space left on device", "/data/rows.parquet"),
        MlflowException("API request to http://127.0.0.1:1/ failed"),
        NoCredentialsError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_others_say_of_a_persons_mistake_is_shown_as_they_say_it(error: Exception) -> None:
    result = CliRunner().invoke(command_that_raises(caused_by(DatasetError("outer"), error)))

    assert result.output == f"Error: {error}\n"


@pytest.mark.parametrize(
    "error",
    [
        DatasetError("Failed while loading data"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/rows"),
        MlflowException("Invalid parameter"),
        ValueError("bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_be_a_mistake_in_the_code_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        CliRunner().invoke(command_that_raises(error), catch_exceptions=False)


def test_an_error_raised_while_another_is_handled_is_found_too() -> None:
    @friendly
    def command() -> None:
        try:
            raise UserError("the reason")
        except UserError:
            raise ValueError("a library's wrapping")  # noqa: B904  (without a cause on purpose)

    with pytest.raises(click.ClickException, match="the reason"):
        command()


def test_a_mistake_in_the_code_keeps_its_traceback() -> None:
    error = caused_by(ZeroDivisionError("bug"), ValueError("reason"))

    with pytest.raises(ZeroDivisionError, match="bug"):
        CliRunner().invoke(command_that_raises(error), catch_exceptions=False)


def test_the_result_and_the_name_of_a_function_stay() -> None:
    @friendly
    def double(number: int) -> int:
        """Twice as much."""
        return 2 * number

    assert double(number=4) == 8
    assert (double.__name__, double.__doc__) == ("double", "Twice as much.")


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first

    assert list(causes(first)) == [first, second]
