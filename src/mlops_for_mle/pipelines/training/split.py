"""Distinct rows: how many there are, and their split into training and validation rows."""

import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Target
from mlops_for_mle.errors import UserError


def row_hashes(features: pd.DataFrame, seed: int) -> npt.NDArray[np.uint64]:
    """A number for each row, salted with the seed; equal rows have equal ones."""
    # Adding zero turns -0.0 into 0.0, which is the same value with other bytes.
    rows = np.ascontiguousarray(features.to_numpy(np.float64) + 0.0)
    key = str(seed).encode()
    hashes = (hashlib.blake2b(row.data, digest_size=8, key=key).digest() for row in rows)
    return np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64)


def hold_back(
    features: pd.DataFrame, truth: npt.NDArray[Any], fraction: float, seed: int, target: Target
) -> npt.NDArray[np.bool_]:
    """Choose validation rows, so that equal rows fall on one side.

    Distinct rows are put in the order of their hashes, class by class, and the first ``fraction``
    of each class is held back. So the order of the rows does not matter, and most rows keep their
    side when the table grows.

    Raises:
        UserError: A class has fewer than two distinct rows, so it cannot stand on both sides.
    """
    distinct, positions = np.unique(row_hashes(features, seed), return_inverse=True)
    strata = {"The table": np.arange(len(distinct))}
    if target.task == "classification":
        # Contradicting classes of equal rows are settled by majority.
        counts = pd.crosstab(positions, truth).reindex(columns=target.class_codes, fill_value=0)
        chosen = counts.to_numpy().argmax(axis=1)
        strata = {
            f"Class {one.value} ({one.label})": np.flatnonzero(chosen == place)
            for place, one in enumerate(target.classes)
        }
    is_held_back = np.zeros(len(distinct), dtype=bool)
    for name, members in strata.items():
        if len(members) < 2:
            raise UserError(
                f"{name} has {len(members)} distinct row(s); training needs at least 2 of each, "
                "one to learn from and one to validate on."
            )
        count = min(max(1, math.floor(fraction * len(members) + 0.5)), len(members) - 1)
        is_held_back[members[:count]] = True
    return is_held_back[positions]


def distinct_counts(
    features: pd.DataFrame, truth: npt.NDArray[Any], target: Target
) -> dict[str, int]:
    """How many distinct rows there are, by the label of their class; in all for a regression."""
    # Equal features with another label are another row.
    is_first = ~pd.concat([features, pd.Series(truth, features.index)], axis=1).duplicated()
    if target.task == "regression":
        return {target.column: int(is_first.sum())}
    counts = pd.Series(truth[is_first]).value_counts()
    return {label: int(counts.get(code, 0)) for code, label in target.labels.items()}
