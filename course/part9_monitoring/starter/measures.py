"""What can be measured of predictions: drift, and, once labels are there, how true they were."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Numbers = npt.NDArray[np.float64]


def find_edges(reference: Numbers, bins: int) -> Numbers:
    """Where one bin ends and the next begins, so that each holds as much of the reference."""
    raise NotImplementedError("step 1: numpy.quantile, and no edge twice")


def count(values: Numbers, edges: Numbers) -> Numbers:
    """How many values lie in each of ``len(edges) + 1`` bins; the outer two have no end."""
    raise NotImplementedError("step 1: numpy.searchsorted and numpy.bincount")


def stability_index(reference: Numbers, current: Numbers) -> float:
    """The index of two samples, from their counts in the same bins."""
    raise NotImplementedError("step 1: shares with half a row more in each bin, then the formula")


def by_chance(reference: Numbers, current: Numbers) -> float:
    """The mean of the index of two samples from one and the same world."""
    raise NotImplementedError("step 2: (bins - 1) times the sum of 1 / rows")


def drift(reference: Numbers, current: Numbers, bins: int) -> float:
    """The index of two samples of values, less what chance gives, and never below 0.

    Raises:
        ValueError: A sample is empty: nothing is known then, which is not the same as 0.
    """
    raise NotImplementedError("step 2: all of the above together")


class Joined(NamedTuple):
    """Predictions with their label, and what is left over on both sides."""

    rows: pd.DataFrame
    pending: int
    unknown: int


def join_labels(predictions: pd.DataFrame, labels: pd.DataFrame) -> Joined:
    """Give each prediction the label that was told last.

    ``rows`` are the predictions with a label, in their order, with the column ``fails`` (0 or 1);
    ``pending`` counts predictions without a label, ``unknown`` labels without a prediction.
    """
    raise NotImplementedError("step 3: the last label of each prediction, then look it up")


def accuracy(rows: pd.DataFrame) -> float:
    """The share of rows whose more probable answer came true."""
    raise NotImplementedError("step 3: a probability of 0.5 or more says that it fails")


def calibration(rows: pd.DataFrame, bins: int) -> pd.DataFrame:
    """What was promised and what came true, in bins of equal width; empty bins are left out.

    The columns are ``promised`` (mean probability), ``came_true`` (share that failed), ``rows``.
    """
    raise NotImplementedError("step 4: group rows by the bin of their probability")


def calibration_error(table: pd.DataFrame) -> float:
    """How far promise and truth lie apart, the mean over rows (Naeini, Cooper, Hauskrecht 2015)."""
    raise NotImplementedError("step 4: numpy.average with weights")
