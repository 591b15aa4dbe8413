"""What can be measured of predictions: drift, and, once labels are there, how true they were."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Numbers = npt.NDArray[np.float64]


def find_edges(reference: Numbers, bins: int) -> Numbers:
    """Where one bin ends and the next begins, so that each holds as much of the reference."""
    return np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))


def count(values: Numbers, edges: Numbers) -> Numbers:
    """How many values lie in each of ``len(edges) + 1`` bins; the outer two have no end."""
    places = np.searchsorted(edges, values, side="right")
    return np.bincount(places, minlength=len(edges) + 1).astype(np.float64)


def stability_index(reference: Numbers, current: Numbers) -> float:
    """The index of two samples, from their counts in the same bins.

    The sum over the bins of (c - r) ln(c / r), where c and r are the bin's share of each sample:
    the divergence of Jeffreys (1946), used in credit scoring by this name (Lewis 1994). Half a row
    is added to every bin, so that an empty one has a logarithm, too.
    """
    r, c = ((one + 0.5) / (one + 0.5).sum() for one in (reference, current))
    return float(((c - r) * np.log(c / r)).sum())


def by_chance(reference: Numbers, current: Numbers) -> float:
    """The mean of the index of two samples from one and the same world (Yurdakul 2018)."""
    return float((len(reference) - 1) * (1 / reference.sum() + 1 / current.sum()))


def drift(reference: Numbers, current: Numbers, bins: int) -> float:
    """The index of two samples of values, less what chance gives, and never below 0.

    Raises:
        ValueError: A sample is empty: nothing is known then, which is not the same as 0.
    """
    if not len(reference) or not len(current):
        raise ValueError("There is no drift of an empty sample.")
    edges = find_edges(reference, bins)
    counts = count(reference, edges), count(current, edges)
    return max(0.0, stability_index(*counts) - by_chance(*counts))


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
    in_order = labels.sort_values("told_on", kind="stable")
    truth = in_order.drop_duplicates("prediction_id", keep="last").set_index("prediction_id")
    known = predictions["prediction_id"].map(truth["fails"])
    rows = predictions.assign(fails=known).dropna(subset="fails").astype({"fails": int})
    unknown = int((~truth.index.isin(predictions["prediction_id"])).sum())
    return Joined(rows, len(predictions) - len(rows), unknown)


def accuracy(rows: pd.DataFrame) -> float:
    """The share of rows whose more probable answer came true."""
    return float(((rows["probability"] >= 0.5) == (rows["fails"] == 1)).mean())


def calibration(rows: pd.DataFrame, bins: int) -> pd.DataFrame:
    """What was promised and what came true, in bins of equal width; empty bins are left out.

    The columns are ``promised`` (mean probability), ``came_true`` (share that failed), ``rows``.
    """
    places = np.minimum((rows["probability"].to_numpy() * bins).astype(int), bins - 1)
    return rows.groupby(places).agg(
        promised=("probability", "mean"), came_true=("fails", "mean"), rows=("fails", "size")
    )


def calibration_error(table: pd.DataFrame) -> float:
    """How far promise and truth lie apart, the mean over rows (Naeini, Cooper, Hauskrecht 2015)."""
    return float(np.average((table["promised"] - table["came_true"]).abs(), weights=table["rows"]))
