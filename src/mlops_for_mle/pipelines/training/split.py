"""Which rows of a snapshot are held out for validation, and the folds of those that are not."""

import hashlib
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, TimeSeriesSplit

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.model import Target
from mlops_for_mle.contract.notation import mask_missing
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training.nodes import Examples
from mlops_for_mle.pipelines.training.options import TrainingOptions

# With more rows, fewer folds tell as much.
_MANY_ROWS = 20_000
# With fewer, such as those of large requests, no two folds have something earlier to learn from.
_MIN_TIMES = 3

Folds = list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]
"""Positions of the train and of the test rows of each fold."""


def split_values(
    rows: pd.DataFrame, features: pd.DataFrame, contract: Contract, training: TrainingOptions
) -> npt.NDArray[Any]:
    """What each row is split by: its time, or a salted hash of its values or of its group's."""
    by, column = training.split.by, training.split.column
    if by == "hash":
        return row_hashes(features, training.seed)
    column = column or (contract.timestamp if by == "time" else contract.group)
    if column is None or column not in rows.columns:
        raise UserError(
            f"training.split.column: expected is one of {', '.join(rows.columns)}, found {column}; "
            "contract.group keeps a column that is no feature"
        )
    if by == "group":
        texts = rows[column].astype("str").fillna("")
        group_hashes = _hashes((text.encode() for text in texts), training.seed)
        is_unknown = mask_missing(rows[column]).isna()
        # Rows whose group is not known belong to none: all that a retraining has may be such rows.
        return np.where(is_unknown, row_hashes(features, training.seed), group_hashes)
    if rows[column].dtype.kind != "M":
        raise UserError(f"training.split.column: {column} holds no dates or times")
    # Rows without a time are taken for the oldest.
    return rows[column].fillna(rows[column].min()).to_numpy("datetime64[us]")


def choose_validation(
    values: npt.NDArray[Any], truth: npt.NDArray[Any], target: Target, training: TrainingOptions
) -> npt.NDArray[np.bool_]:
    """Choose the validation rows, so that rows with equal ``split_values`` fall on one side.

    Distinct values are put in order, hashes as they are and times with the newest first, and the
    first are held out: ``validation_fraction`` of the rows, or of the distinct rows of each class
    where these are what is split. So the order of the rows does not matter, and most rows keep
    their side when the table grows.
    """
    by = training.split.by
    distinct, positions, weights = np.unique(values, return_inverse=True, return_counts=True)
    strata = np.zeros(len(distinct), np.intp)
    if by == "hash":
        weights = np.ones_like(weights)
        if target.classes:
            # Contradicting classes of equal rows are settled by majority.
            codes = target.class_codes
            counts = [
                np.bincount(positions[truth == code], minlength=len(distinct)) for code in codes
            ]
            strata = np.argmax(counts, axis=0)
    is_held_out = np.zeros(len(distinct), dtype=bool)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        if by == "time":
            members = members[::-1]
        middles = weights[members].cumsum() - weights[members] / 2
        wanted = training.validation_fraction * weights[members].sum()
        count = int((middles <= wanted).sum())
        is_held_out[members[: min(max(1, count), len(members) - 1)]] = True
    is_validation = np.asarray(is_held_out[positions])
    trained, validated = set(truth[~is_validation].tolist()), set(truth[is_validation].tolist())
    lacking = set(target.class_codes) - (trained & validated if by == "hash" else trained)
    if lacking or not validated:
        of = ", ".join(f" of class {target.labels[code]}" for code in sorted(lacking))
        raise UserError(
            f"training.split leaves no row{of} to learn from or to validate on: ingest more rows, "
            "hold back fewer, or split otherwise."
        )
    return is_validation


def folds(train: Examples, training: TrainingOptions, count: int | None = None) -> Folds:
    """Split the training rows again, by the same rule as ``choose_validation``.

    Split by time, each fold tests on a later stretch what was trained on all before it; where
    rows are of one or two times alone, they are split by their hashes. A fold without a row of
    every class to learn from is left out; with fewer than two it is an error.
    """
    truth, is_classifier = train.truth, bool(train.contract.target.classes)
    values, is_by_time = train.split_values, training.split.by == "time"
    if is_by_time and len(np.unique(values)) < _MIN_TIMES:
        values, is_by_time = row_hashes(train.features, training.seed), False
    distinct, positions = np.unique(values, return_inverse=True)
    if count is None:
        # More folds than the largest class has rows cannot be stratified.
        largest = int(np.unique(truth, return_counts=True)[1].max()) if is_classifier else 5
        maximum = 5 if len(truth) <= _MANY_ROWS else 3
        count = max(2, min(maximum, largest, len(distinct) - is_by_time))
    if is_by_time:
        splits = [
            (np.flatnonzero(np.isin(positions, past)), np.flatnonzero(np.isin(positions, later)))
            for past, later in TimeSeriesSplit(count).split(distinct)
        ]
    else:
        splitter_class = StratifiedGroupKFold if is_classifier else GroupKFold
        splitter = splitter_class(count, shuffle=True, random_state=training.seed)
        with warnings.catch_warnings():
            # It warns of classes with fewer rows than there are folds, which is looked at below.
            warnings.simplefilter("ignore", UserWarning)
            splits = list(splitter.split(positions, truth, positions))
    if is_classifier:
        class_count = len(np.unique(truth))
        splits = [fold for fold in splits if len(np.unique(truth[fold[0]])) == class_count]
    if len(splits) < 2:
        raise UserError(
            "training.split: rows of every class stand in too few folds to choose by "
            "cross-validation: ingest more, or name one training.estimator without a search."
        )
    return splits


def row_hashes(features: pd.DataFrame, seed: int) -> npt.NDArray[np.uint64]:
    """A number for each row, salted with the seed; equal rows have equal ones."""
    # Adding zero turns -0.0 into 0.0, which is the same value with other bytes.
    rows = np.ascontiguousarray(features.to_numpy(np.float64) + 0.0)
    return _hashes((row.data for row in rows), seed)


def _hashes(contents: Iterable[bytes | memoryview], seed: int) -> npt.NDArray[np.uint64]:
    key = str(seed).encode()
    hashes = (hashlib.blake2b(content, digest_size=8, key=key).digest() for content in contents)
    return np.fromiter(hashes, "S8").view(">u8").astype(np.uint64)
