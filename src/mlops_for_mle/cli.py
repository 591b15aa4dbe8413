"""The project's commands, which `kedro` offers beside its own, and how their errors are shown."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import click
from kedro.framework.cli.utils import KedroCliError, LazyGroup

from mlops_for_mle.errors import error_message, is_nothing_to_do, user_message

_COMMANDS = "mlops_for_mle.commands"

# Kedro looks for its message among exceptions under way, of which click 8.5 leaves none.
KedroCliError.show = click.ClickException.show  # type: ignore[method-assign]


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """End with one sentence and exit status 1, or 0 where not called for, without a traceback."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        if is_nothing_to_do(error):
            click.echo(error_message(error))
            raise click.exceptions.Exit(0) from error
        if KedroCliError.VERBOSE_ERROR:
            raise
        sentence = user_message(error)
        if sentence is None:
            command = click.get_current_context().info_name
            sentence = f"{error_message(error)} (where it came from: kedro {command} --verbose …)"
        raise click.ClickException(sentence) from error


_VERBOSE = click.Option(
    ["--verbose"],
    is_flag=True,
    expose_value=False,
    callback=lambda *arguments: setattr(KedroCliError, "VERBOSE_ERROR", arguments[-1]),
    help="Show where an error came from.",
)


class ProjectCommands(LazyGroup):
    """Commands that are imported when they are called."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command, whose errors are shown as sentences."""
        original = super().get_command(ctx, cmd_name)
        if original is None:
            return None
        command = copy.copy(original)
        command.params = [*original.params, _VERBOSE]
        command.invoke = errors_as_sentences()(command.invoke)  # type: ignore[method-assign]
        return command


cli = ProjectCommands(
    name=__file__,
    help="Commands of the project.",
    lazy_subcommands={
        "run": "kedro.framework.cli.project.run",
        "contract": f"{_COMMANDS}.contract.contract_commands",
        "db": f"{_COMMANDS}.database.database_commands",
        "mlflow": f"{_COMMANDS}.processes.mlflow_commands",
        "model": f"{_COMMANDS}.model.model_commands",
        "score": f"{_COMMANDS}.processes.score",
        "score-topic": f"{_COMMANDS}.processes.score_topic",
        "serve": f"{_COMMANDS}.processes.serve",
        "stream": f"{_COMMANDS}.processes.stream",
        "watch": f"{_COMMANDS}.processes.watch",
    },
)
