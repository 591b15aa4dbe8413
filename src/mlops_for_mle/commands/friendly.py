"""Shows errors that a person can mend as one sentence."""

import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import click

from mlops_for_mle.errors import NotCalledForError, UserError

# How Kedro begins what it says of names that it does not know.
_KEDROS_REFUSALS = ("Failed to find the pipeline", "Pipeline does not contain")

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def friendly(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn a ``UserError`` anywhere in the chain of causes into a message and exit code 1.

    What is merely not called for ends with exit code 0.
    """

    @functools.wraps(function)
    def wrapped(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        try:
            return function(*args, **options)
        except Exception as error:
            chain = list(causes(error))
            for cause in chain:
                if isinstance(cause, NotCalledForError):
                    click.echo(str(cause))
                    raise click.exceptions.Exit(0) from error
                if isinstance(cause, UserError):
                    raise click.ClickException(str(cause)) from error
            # Others wrap our sentences in theirs, so these come last.
            for cause in filter(_is_a_persons_mistake, chain):
                raise click.ClickException(" ".join(str(cause).split())) from error
            raise

    return wrapped


def _is_a_persons_mistake(error: BaseException) -> bool:
    """Whether others refuse the configuration, or the names of pipelines and nodes."""
    from kedro.validation.exceptions import ParameterValidationError
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if isinstance(error, ParameterValidationError | OmegaConfBaseException | YAMLError):
        return True
    return isinstance(error, ValueError) and str(error).startswith(_KEDROS_REFUSALS)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that led to it."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
