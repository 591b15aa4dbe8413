"""A progress bar for people who watch a terminal; silent everywhere else."""

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def show_progress(items: Iterable[Item], total: int) -> Iterable[Item]:
    """Give the items on, drawing a bar on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, total=total, desc="search", unit="trial", leave=False)
