"""A duration, as options of commands take it."""

import re
from datetime import timedelta
from typing import Any

import click

_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


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
        match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)(ms|s|m|h|d)", str(value))
        if match is None:
            self.fail(f"expected a number with ms, s, m, h or d, such as 1s (found {value!r})")
        duration = timedelta(**{_UNITS[match[2]]: float(match[1])})
        if duration < self._least:
            self.fail(f"expected at least {self._least.total_seconds():g}s (found {value!r})")
        return duration
