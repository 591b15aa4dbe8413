import click
import pytest
from click.testing import CliRunner
from kedro.validation.exceptions import ParameterValidationError
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
