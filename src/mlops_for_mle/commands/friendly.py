"""Shows errors that a person can mend as one sentence."""

import errno
import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import click

from mlops_for_mle.errors import NotCalledForError, UserError

# Of what Kedro says, what is about names that it does not know, and about the catalog.
_KEDROS_REFUSALS = (
    "Failed to find the pipeline",
    "Pipeline does not contain",
    "Pipeline contains no nodes",
    "are not found in the catalog",
    "Duplicate keys found",
    "is not a valid dataset configuration",
    "An exception occurred when parsing config for dataset",
    "must only contain arguments valid for the constructor",
    "module 'kedro.runner' has no attribute",
    "cannot be used with multiprocessing",
)

# Of what MLflow says, what is about its server and where that is.
_MLFLOWS_REFUSALS = ("API request to", "The filesystem tracking backend")

# The disk is full, or where the configuration says nobody, or not this user, can write.
_NO_WRITING = (
    errno.EACCES,
    errno.EDQUOT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)

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
    """Whether others refuse the configuration, names of pipelines and nodes, or to write."""
    from kedro.io import DatasetError
    from kedro.validation.exceptions import ParameterValidationError
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if isinstance(error, ParameterValidationError | OmegaConfBaseException | YAMLError):
        return True
    if isinstance(error, OSError) and error.errno in _NO_WRITING:
        return True
    # S3 without credentials or an answer, or MLflow; both are imported only where they are used.
    where = type(error).__module__
    if where == "botocore.exceptions":
        return True
    if where == "mlflow.exceptions":
        return str(error).startswith(_MLFLOWS_REFUSALS)
    return isinstance(error, AttributeError | DatasetError | ValueError) and any(
        said in str(error) for said in _KEDROS_REFUSALS
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that led to it."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
