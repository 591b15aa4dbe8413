"""What is predicted: the task and the classes, decided from the target's values."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import pandas as pd

from mlops_for_mle.contract.model import Task
from mlops_for_mle.contract_inference.column import Column
from mlops_for_mle.contract_inference.flags import identifier_reason
from mlops_for_mle.errors import SourceError

MAXIMUM_CLASSES = 100
_FEW_NUMBERS = 20
_ROWS_A_CLASS = 2
# Ingestion holds everything back when more rows than this are bad.
_MAXIMUM_MISSING = 0.5


@dataclass(frozen=True)
class InferredTarget:
    """The target.

    Attributes:
        column: Its profile.
        task: What kind of prediction it asks for.
        counts: How many rows each class has, in the contract's order; empty for a regression.
    """

    column: Column
    task: Task
    counts: dict[int | str, int]


def check_target_is_there(names: Sequence[str], wanted: str, source: str) -> None:
    """Check the name.

    Raises:
        SourceError: There is no such column; names those there are, and one that looks alike.
    """
    if wanted in names:
        return
    alike = get_close_matches(wanted.lower(), [name.lower() for name in names], n=1, cutoff=0.7)
    meant = next((name for name in names if alike and name.lower() == alike[0]), None)
    raise SourceError(
        f"{source} has no column {wanted!r} to predict"
        f"{f', did you mean {meant!r}?' if meant else ''}: give one of its columns as --target "
        f"({', '.join(names)})."
    )


def infer_target(column: Column, wanted_task: Task | None = None) -> InferredTarget:
    """Decide between classification and regression.

    Text and booleans are classes, and so are whole numbers with few different values, even where
    they are written as 0.0 and 1.0; other numbers are a regression.

    Args:
        column: The profile of the target's column.
        wanted_task: Decides instead, where it is possible.

    Raises:
        SourceError: Nothing can be learned of it; says what to do.
    """
    if column.problem is not None:
        raise SourceError(column.problem.split(", or leave the column out")[0].rstrip(".") + ".")
    _check_values(column)
    is_number = column.is_number
    if column.is_time or column.kind == "other":
        raise SourceError(
            f"Target column {column.name!r} holds values of kind {column.kind}, which cannot be "
            "predicted: make it a number (such as days until then) or classes."
        )
    if wanted_task == "regression" and not is_number:
        raise SourceError(
            f"Target column {column.name!r} holds {column.kind}, but a regression needs numbers: "
            "leave out --task, or name another --target."
        )
    if wanted_task == "classification" and is_number and not column.is_whole:
        raise SourceError(
            f"Target column {column.name!r} holds numbers that are not whole, which are no "
            "classes: leave out --task, or name another --target."
        )
    task = wanted_task or ("classification" if _looks_like_classes(column) else "regression")
    return InferredTarget(column, task, _classes(column) if task == "classification" else {})


def _check_values(column: Column) -> None:
    name, rows = column.name, f"{column.row_count:,} rows"
    if column.kind == "empty":
        raise SourceError(
            f"Target column {name!r} is empty in all {rows}: read rows whose outcome is known, or "
            "name another --target."
        )
    if column.missing_count > _MAXIMUM_MISSING * column.row_count:
        raise SourceError(
            f"Target column {name!r} is missing in {column.missing_count:,} of {rows}: read only "
            "rows whose outcome is known, for example with --query … WHERE … IS NOT NULL."
        )
    if column.kind != "other" and column.distinct_count == 1:
        raise SourceError(
            f"Target column {name!r} has the same value in every row ({column.counts.index[0]}), "
            "so there is nothing to learn: read rows with other outcomes too, or name another "
            "--target."
        )
    reason = identifier_reason(column)
    if reason is not None:
        raise SourceError(
            f"Target column {name!r} {reason} and cannot be predicted: name another --target."
        )


def _looks_like_classes(column: Column) -> bool:
    if not column.is_number:
        return True
    return (
        column.is_whole
        and column.distinct_count <= _FEW_NUMBERS
        and column.distinct_count * _ROWS_A_CLASS <= len(column.present)
        and int(column.counts.min()) >= _ROWS_A_CLASS
    )


def _classes(column: Column) -> dict[int | str, int]:
    if column.distinct_count > MAXIMUM_CLASSES:
        raise SourceError(
            f"Target column {column.name!r} has {column.distinct_count:,} classes, at most "
            f"{MAXIMUM_CLASSES} are allowed: group them into fewer, or name another --target."
        )
    rare = column.counts[column.counts < _ROWS_A_CLASS]
    if len(rare):
        raise SourceError(
            f"Target column {column.name!r} has only one row of the class {rare.index[0]!r}"
            f"{f' and of {len(rare) - 1} more' if len(rare) > 1 else ''}: a class needs at least "
            "2, one to learn from and one to validate on; add rows, or remove these."
        )
    counts = {_plain(value): int(count) for value, count in column.counts.items()}
    return dict(sorted(counts.items(), key=lambda item: item[0]))


def _plain(value: Any) -> int | str:
    """A class as the contract holds it; booleans become the text that ingestion makes of them."""
    if pd.api.types.is_bool(value):
        return str(bool(value))
    return value if isinstance(value, str) else int(value)
