"""A profiled column: its kind, its values read as that kind, and what is wrong with it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

Kind = Literal[
    "float",
    "integer",
    "decimal",
    "boolean",
    "text",
    "date",
    "timestamp",
    "empty",
    "other",
]

NUMBER_KINDS = frozenset({"float", "integer", "decimal"})
TIME_KINDS = frozenset({"date", "timestamp"})


@dataclass(frozen=True)
class Column:
    """A column of the source.

    Attributes:
        name: Its name in the source.
        kind: What its values are; ``other`` is what no contract can hold.
        values: The values read as that kind, missing where they are; codes of categories and
            other text stay text.
        problem: Why it cannot be ingested as it is, with the remedy; None where it can.
        date_format: How dates are written, in the codes of strptime; None for ISO 8601.
    """

    name: str
    kind: Kind
    values: "pd.Series[Any]"
    problem: str | None = None
    date_format: str | None = None

    @property
    def row_count(self) -> int:
        """The number of rows, with those where the value is missing."""
        return len(self.values)

    @cached_property
    def present(self) -> "pd.Series[Any]":
        """The values that are not missing."""
        return self.values.dropna()

    @cached_property
    def missing_count(self) -> int:
        """In how many rows the value is missing."""
        return self.row_count - len(self.present)

    @cached_property
    def counts(self) -> "pd.Series[int]":
        """How often each value occurs: the most frequent first, equals in their own order."""
        if self.kind == "other":
            return pd.Series(dtype="int64")
        return self.present.value_counts().sort_index().sort_values(ascending=False, kind="stable")

    @property
    def distinct_count(self) -> int:
        """The number of different values."""
        return len(self.counts)

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.kind in NUMBER_KINDS

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers that a float64 keeps exactly, however written."""
        if not self.is_number:
            return False
        values = self.present.to_numpy(np.float64)
        return bool(((values == np.trunc(values)) & (np.abs(values) < 2.0**53)).all())

    @property
    def is_time(self) -> bool:
        """Whether the values are dates or times."""
        return self.kind in TIME_KINDS


def count(number: int, noun: str) -> str:
    """A number with its noun, for messages."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def or_leave_out(name: str) -> str:
    """The remedy that always helps, as the end of a sentence."""
    return f", or leave the column out with --leave-out {name!r}."
