"""Points that cover what a model may be asked, for comparing its served form with itself."""

import itertools

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.model import Feature
from mlops_for_mle.encoding import EncodedColumn, Encoding, encoding_of
from mlops_for_mle.frame_encoding import encode_frame

GRID_POINTS = 20_000
# Rarely enough to leave most points complete, often enough to meet every column many times.
_MISSING_SHARE = 0.05


def grid(rows: pd.DataFrame, contract: Contract, point_count: int = GRID_POINTS) -> np.ndarray:
    """Points that cover the range of each feature in the rows, its ends included.

    Of numbers a full lattice where few features allow one; otherwise every column's own evenly
    spread values in a random order. Only what a request may hold is among them: whole numbers
    where the contract has whole numbers, codes of categories, and what is missing only where it
    may be.
    """
    encoding = encoding_of(contract)
    values = encode_frame(rows, contract).to_numpy()
    are_plain = encoding.is_identity and all(
        one.type != "integer" for one in contract.features.values()
    )
    steps = int(point_count ** (1 / encoding.width))
    if are_plain and steps >= 3:
        low, high = values.min(axis=0), values.max(axis=0)
        axes = [np.linspace(a, b, steps) for a, b in zip(low, high, strict=True)]
        return np.array(list(itertools.product(*axes)))
    random = np.random.default_rng(0)
    columns = [
        random.permutation(
            _spread(
                column, contract.features[column.source], values[:, place], encoding, point_count
            )
        )
        for place, column in enumerate(encoding.columns)
    ]
    points = np.column_stack(columns)
    _remove_some(points, encoding, contract, random)
    return points


def _spread(
    column: EncodedColumn, feature: Feature, values: np.ndarray, encoding: Encoding, count: int
) -> np.ndarray:
    """Evenly spread values of one column, as many as there are points."""
    if column.kind in ("boolean", "category"):
        return np.resize(np.array(encoding.codes(column)), count)
    present = values[~np.isnan(values)]
    if not len(present):
        return np.zeros(count)
    spread = np.linspace(present.min(), present.max(), count)
    is_whole = column.kind == "part" or feature.type == "integer"
    return np.round(spread) if is_whole else spread


def _remove_some(
    points: np.ndarray, encoding: Encoding, contract: Contract, random: np.random.Generator
) -> None:
    """Make features missing here and there; all parts of a date are missing together."""
    for name, feature in contract.features.items():
        if not feature.is_optional or feature.missing == "separate":
            continue
        places = [place for place, one in enumerate(encoding.columns) if one.source == name]
        chosen = random.random(len(points)) < _MISSING_SHARE
        for place in places:
            points[chosen, place] = np.nan
