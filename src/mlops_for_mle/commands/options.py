"""Options that several commands share."""

import re
from datetime import timedelta
from typing import Any

import click

env_option = click.option(
    "--env",
    "-e",
    default=None,
    envvar="KEDRO_ENV",
    help="A folder of conf; the default is KEDRO_ENV, else local.",
)
reason_option = click.option("--reason", required=True, help="Why; recorded in the audit trail.")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Duration(click.ParamType[timedelta]):
    """A duration such as 250ms, 1s, 5m, 1h or 90d."""

    name = "duration"

    def __init__(self, least: timedelta = timedelta()) -> None:
        """Allow durations from ``least`` on."""
        self._least = least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read a number with a unit."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", str(value).strip())
        if match is None:
            self.fail(f"expected a number with ms, s, m, h or d, such as 1s (found {value!r})")
        try:
            duration = timedelta(seconds=float(match[1]) * _UNITS[match[2]])
        except OverflowError:
            self.fail("is longer than a clock can tell")
        if duration < self._least:
            self.fail(f"expected at least {self._least.total_seconds():g}s (found {value!r})")
        return duration


follow_option = click.option(
    "--follow", is_flag=True, help="Go on with what arrives, until Ctrl-C."
)
batch_size_option = click.option(
    "--batch-size",
    default=500,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="At most so many rows a transaction.",
)
report_every_option = click.option(
    "--report-every",
    default="10s",
    show_default=True,
    type=Duration(),
    help="Time between two lines of progress.",
)
