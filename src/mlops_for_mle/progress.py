"""A progress bar for people who watch a terminal; silent everywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def show_rows(total: Callable[[], int | None]) -> Iterator[Callable[[int], object]]:
    """Draw a bar of rows while the block runs, on standard error where that is a terminal.

    Args:
        total: Counts all rows, which may take a while; asked only where a bar is drawn.

    Yields:
        A function to be called with the number of rows that were just done.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(total=total(), desc="scoring", unit="row", unit_scale=True, leave=False) as bar:
        yield bar.update
