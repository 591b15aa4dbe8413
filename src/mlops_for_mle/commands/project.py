"""What commands share: the project as ``conf`` has it, durations, and how they are stopped."""

import functools
import logging
import re
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import click
from kedro.framework.project import settings
from kedro.framework.startup import ProjectMetadata, bootstrap_project

from mlops_for_mle.config import ProjectConfigLoader
from mlops_for_mle.contract import Contract

_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Project(NamedTuple):
    """What the configuration says of a project; None stands for the environment ``local``."""

    folder: Path
    env: str | None
    configuration: ProjectConfigLoader
    parameters: dict[str, Any]
    contract: Contract


def read_project(folder: Path, env: str | None) -> Project:
    """Read the configuration of an environment."""
    bootstrap_project(folder)
    loader = ProjectConfigLoader(str(folder / "conf"), env=env, **settings.CONFIG_LOADER_ARGS)
    parameters = loader["parameters"]
    contract = Contract.model_validate(parameters["contract"])
    return Project(folder, env, loader, parameters, contract)


def with_project(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option ``--env``, and the project of that environment first."""

    @click.option(
        "--env",
        "-e",
        envvar="KEDRO_ENV",
        help="A folder of conf; the default is KEDRO_ENV, else local.",
    )
    @click.pass_obj
    @functools.wraps(function)
    def command(metadata: ProjectMetadata, /, env: str | None, **options: Any) -> None:
        function(read_project(metadata.project_path, env), **options)

    return command


def duration(least: timedelta = timedelta()) -> Callable[[str], timedelta]:
    """The type of an option that takes a duration such as 250ms, 1s, 5m, 1h or 90d."""

    # click calls the type by the name of its function.
    def duration(value: str) -> timedelta:
        match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)(ms|s|m|h|d)", value)
        parsed = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else None
        if parsed is None or parsed < least:
            shortest = f"{least.total_seconds():g}s"
            raise click.BadParameter(f"{value!r} is not at least {shortest}, in ms, s, m, h or d")
        return parsed

    return duration


def until_stopped() -> Event:
    """What SIGINT and SIGTERM set from now on, instead of ending the process; progress is told."""
    stopping = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # By a thread, since this one may be interrupted where it holds the event's own lock.
        signal.signal(number, lambda *_: Thread(target=stopping.set).start())
    logging.getLogger("mlops_for_mle").setLevel(logging.INFO)
    return stopping
