"""The split into training and validation rows."""

import hashlib
import math

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import UserError
from mlops_for_mle.frame_encoding import encode_frame
from mlops_for_mle.frames import row_groups
from mlops_for_mle.target import encode_target


def split_rows(
    rows: pd.DataFrame, contract: Contract, fraction: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows so that rows with equal features fall on one side.

    Distinct feature rows are put in the order of a salted hash of their values, class by class,
    and the first ``fraction`` of each class is held back. The split therefore depends on neither
    the order of the rows nor on which other rows there are, beyond their number by class, and
    most rows keep their side when the table grows.

    Args:
        rows: Columns of the contract.
        contract: Names the features and the target.
        fraction: The share of distinct rows that is held back.
        seed: The salt.

    Returns:
        Training rows and validation rows, each in the order of ``rows``.

    Raises:
        UserError: A class has fewer than two distinct rows, so it cannot stand on both sides.
    """
    features = encode_frame(rows, contract)
    target = encode_target(rows[contract.target.column], contract.target)
    groups = row_groups(features).to_numpy()
    first_of_group = pd.Series(groups).drop_duplicates().index.to_numpy()
    ranks = np.array([_rank(values, seed) for values in features.to_numpy()[first_of_group]])
    strata = _strata(target, groups, contract)
    held_back: set[int] = set()
    is_regression = contract.target.task == "regression"
    for stratum in np.unique(strata if is_regression else target):
        members = np.flatnonzero(strata == stratum)
        if len(members) < 2:
            raise UserError(
                f"{_name_of(int(stratum), contract)} has {len(members)} distinct row(s); "
                "training needs at least 2 of each, one to learn from and one to validate on."
            )
        count = min(max(1, math.floor(fraction * len(members) + 0.5)), len(members) - 1)
        held_back.update(members[np.argsort(ranks[members], kind="stable")][:count].tolist())
    is_validation = np.isin(groups, list(held_back))
    return (
        rows.loc[~is_validation].reset_index(drop=True),
        rows.loc[is_validation].reset_index(drop=True),
    )


def _strata(target: np.ndarray, groups: np.ndarray, contract: Contract) -> np.ndarray:
    """The class of each group, by majority; one stratum for regression."""
    if contract.target.task == "regression":
        return np.zeros(int(groups.max()) + 1, dtype=np.int64)
    counts = pd.crosstab(groups, target)
    majority = counts.to_numpy().argmax(axis=1)
    return np.asarray(counts.columns.to_numpy()[majority], dtype=np.int64)


def _rank(values: np.ndarray, seed: int) -> bytes:
    # Adding zero turns -0.0 into 0.0, which is the same value with other bytes.
    content = np.ascontiguousarray(values + 0.0).tobytes()
    return hashlib.blake2b(content, digest_size=8, key=str(seed).encode()).digest()


def _name_of(stratum: int, contract: Contract) -> str:
    if contract.target.task == "regression":
        return "The table"
    return f"Class {contract.target.values[stratum]} ({contract.target.labels[stratum]})"
