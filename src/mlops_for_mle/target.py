"""The target's values as the model has them: a class's code, or a number."""

from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Target


def encode_target(values: "pd.Series[Any]", target: Target) -> np.ndarray:
    """What the model is to answer for values of the table: class codes (int64), or float64.

    Raises:
        ValueError: A value is none of the classes.
    """
    if target.task == "regression":
        return np.asarray(values.to_numpy(np.float64))
    codes = values.map(target.codes).to_numpy(np.float64, na_value=np.nan)
    if np.isnan(codes).any():
        first = values[np.isnan(codes)].iloc[0]
        raise ValueError(f"{target.column}: {first!r} is none of the classes")
    return np.asarray(codes.astype(np.int64))
