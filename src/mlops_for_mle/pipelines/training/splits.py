"""Which rows are held back, and the folds of a cross-validation: both by one rule.

Rows are split by a hash of their values, so that equal rows fall on one side; by time, so that a
model is judged on what comes after what it has learned from; or by a group, such as a shop, so that
it is judged on groups that it has not seen.
"""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.model import Target
from mlops_for_mle.contract.notation import is_blank
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training.options import SplitOptions, TrainingOptions
from mlops_for_mle.releases.manifest import SplitFacts

_FOLDS = 5
# With more rows, fewer folds tell as much.
_MANY_ROWS = 20_000

Folds = list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]
"""Positions of the rows to learn from and of those to judge by, fold by fold."""


def split_values(
    rows: pd.DataFrame, features: pd.DataFrame, contract: Contract, training: TrainingOptions
) -> npt.NDArray[Any]:
    """What each row is split by: its time, or a salted hash of its values or of its group's."""
    by = training.split.by
    if by == "hash":
        return row_hashes(features, training.seed)
    column = split_column(training.split, contract)
    if column not in rows.columns:
        raise UserError(
            f"training.split.column: the rows have no column {column}, expected is one of "
            f"{', '.join(rows.columns)}"
        )
    if by == "group":
        # What is missing is a group, too.
        texts = rows[column].astype("str").mask(is_blank(rows[column]), "")
        return _hashes((one.encode() for one in texts), training.seed)
    if rows[column].dtype.kind != "M":
        raise UserError(f"training.split.column: {column} holds no dates or times")
    # Rows without a time are taken for the oldest.
    return rows[column].fillna(rows[column].min()).to_numpy("datetime64[us]")


def split_column(split: SplitOptions, contract: Contract) -> str | None:
    """The column that rows are split by; None for a hash of their values."""
    return None if split.by == "hash" else split.column or contract.timestamp


def hold_back(
    values: npt.NDArray[Any], truth: npt.NDArray[Any], target: Target, training: TrainingOptions
) -> npt.NDArray[np.bool_]:
    """Choose the validation rows, so that rows with equal ``split_values`` fall on one side.

    Distinct values are put in order, hashes as they are and times with the newest first, and the
    first are held back: ``validation_fraction`` of the rows, or of the distinct rows of each class
    where these are what is split. So the order of the rows does not matter, and most rows keep
    their side when the table grows.
    """
    by = training.split.by
    distinct, positions, weights = np.unique(values, return_inverse=True, return_counts=True)
    order = np.arange(len(distinct))
    strata = {"The table": order[::-1] if by == "time" else order}
    if by == "hash":
        weights = np.ones_like(order)
        if target.classes:
            # Contradicting classes of equal rows are settled by majority.
            counts = pd.crosstab(positions, truth)
            counts = counts.reindex(columns=target.class_codes, fill_value=0)
            chosen = counts.to_numpy().argmax(axis=1)
            strata = {
                f"Class {one.value} ({one.label})": np.flatnonzero(chosen == place)
                for place, one in enumerate(target.classes)
            }
    is_held_back = np.zeros(len(distinct), dtype=bool)
    for name, members in strata.items():
        if len(members) < 2:
            what = "row" if by == "hash" else by
            raise UserError(
                f"{name} has {len(members)} distinct {what}(s); training needs at least 2 of each, "
                "one to learn from and one to validate on."
            )
        middles = weights[members].cumsum() - weights[members] / 2
        wanted = training.validation_fraction * weights[members].sum()
        count = int((middles <= wanted).sum())
        is_held_back[members[: min(max(1, count), len(members) - 1)]] = True
    is_validation = np.asarray(is_held_back[positions])
    unseen = set(target.class_codes) - set(truth[~is_validation].tolist())
    if unseen:
        labels = ", ".join(target.labels[code] for code in sorted(unseen))
        raise UserError(
            f"No row that is left to learn from has class {labels}: change training.split, hold "
            "back fewer rows, or ingest more."
        )
    return is_validation


def folds(
    values: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    target: Target,
    training: TrainingOptions,
    count: int,
) -> Folds:
    """Split the rows to learn from again, by the same rule as ``hold_back``.

    Of times, each fold judges by a later stretch what was learned from all before it. A fold
    without a row of every class to learn from is left out; with fewer than two it is an error.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, TimeSeriesSplit

    distinct, positions = np.unique(values, return_inverse=True)
    if training.split.by == "time":
        made = [
            (np.flatnonzero(np.isin(positions, past)), np.flatnonzero(np.isin(positions, later)))
            for past, later in TimeSeriesSplit(count).split(distinct)
        ]
    else:
        kind = StratifiedGroupKFold if target.classes else GroupKFold
        splitter = kind(count, shuffle=True, random_state=training.seed)
        made = list(splitter.split(values, truth, positions))
    known = len(np.unique(truth)) if target.classes else 0
    kept = [one for one in made if len(np.unique(truth[one[0]])) >= known]
    if len(kept) < 2:
        raise UserError(
            "training.split: rows of every class stand in too few folds to choose by "
            "cross-validation: ingest more, or name one training.estimator without a search."
        )
    return kept


def fold_count(truth: npt.NDArray[Any]) -> int:
    """In how many folds rows are split, unless that is configured."""
    return _FOLDS if len(truth) <= _MANY_ROWS else 3


def few_folds(
    values: npt.NDArray[Any], truth: npt.NDArray[Any], target: Target, training: TrainingOptions
) -> Folds:
    """Fewer folds than usual where there are few rows of a class; none where they cannot be."""
    is_by_time = training.split.by == "time"
    parts = [values] if is_by_time else [values[truth == code] for code in np.unique(truth)]
    count = min(fold_count(truth), *(len(np.unique(one)) - is_by_time for one in parts))
    with suppress(UserError):
        return folds(values, truth, target, training, count) if count > 1 else []
    return []


def partition(made: Folds, row_count: int) -> Folds:
    """Folds that judge every row once: the oldest, which have no past, by all that came later."""
    unjudged = np.ones(row_count, dtype=bool)
    for _, judge in made:
        unjudged[judge] = False
    if not unjudged.any():
        return made
    return [(np.flatnonzero(~unjudged), np.flatnonzero(unjudged)), *made]


def split_facts(
    values: npt.NDArray[Any],
    is_validation: npt.NDArray[np.bool_],
    contract: Contract,
    training: TrainingOptions,
) -> SplitFacts:
    """What is told of a split."""
    by, count = training.split.by, int(is_validation.sum())
    oldest = values[is_validation].min() if by == "time" else None
    return SplitFacts(
        by=by,
        column=split_column(training.split, contract),
        training_rows=len(values) - count,
        validation_rows=count,
        validated_from=None if oldest is None else oldest.astype("datetime64[us]").item(),
    )


def row_hashes(features: pd.DataFrame, seed: int) -> npt.NDArray[np.uint64]:
    """A number for each row, salted with the seed; equal rows have equal ones."""
    # Adding zero turns -0.0 into 0.0, which is the same value with other bytes.
    rows = np.ascontiguousarray(features.to_numpy(np.float64) + 0.0)
    return _hashes((row.data for row in rows), seed)


def _hashes(contents: "Iterable[bytes | memoryview]", seed: int) -> npt.NDArray[np.uint64]:
    key = str(seed).encode()
    hashes = (hashlib.blake2b(one, digest_size=8, key=key).digest() for one in contents)
    return np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64)
