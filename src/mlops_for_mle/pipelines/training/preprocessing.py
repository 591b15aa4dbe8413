"""What stands in front of an estimator, derived from the contract: impute, scale, one-hot."""

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.model import Feature
from mlops_for_mle.encoding import EncodedColumn, Encoding, encoding_of

SCALER = "scaler"
COLUMNS = "columns"
ROUND = "round"


def preprocessing_steps(contract: Contract, *, scale: bool) -> list[tuple[str, Any]]:
    """The steps between the encoded matrix and the estimator.

    A contract of plain numbers has a scaler or nothing. Otherwise columns are treated by their
    kinds: statistics of the training rows replace what is missing, where the contract allows
    that; numbers and parts of dates are scaled; categories become one column each.
    """
    encoding = encoding_of(contract)
    if encoding.is_identity:
        return [(SCALER, StandardScaler())] if scale else []
    groups: dict[tuple[Any, ...], list[int]] = {}
    for position, column in enumerate(encoding.columns):
        groups.setdefault(_treatment(column, contract.features[column.source]), []).append(position)
    transformers = [
        _transformer(treatment, positions, encoding, contract, scale)
        for treatment, positions in groups.items()
    ]
    return [(COLUMNS, ColumnTransformer(transformers, verbose_feature_names_out=False))]


def rounding_step() -> tuple[str, Any]:
    """A step that rounds to float32, so that comparisons with thresholds are exact there."""
    # np.asarray rather than a function of ours: the logged model loads without this package.
    return ROUND, FunctionTransformer(np.asarray, kw_args={"dtype": np.float32})


def _treatment(column: EncodedColumn, feature: Feature) -> tuple[Any, ...]:
    """Columns with the same treatment are transformed together."""
    if column.kind == "category":
        return ("category", column.source)
    kind = "boolean" if column.kind == "boolean" else "number"
    return (kind, feature.missing, feature.constant if feature.missing == "constant" else None)


def _transformer(
    treatment: tuple[Any, ...],
    positions: list[int],
    encoding: Encoding,
    contract: Contract,
    scale: bool,
) -> tuple[str, Any, list[int]]:
    columns = [encoding.columns[position] for position in positions]
    feature = contract.features[columns[0].source]
    steps: list[tuple[str, Any]] = []
    imputer = _imputer(feature)
    if imputer is not None:
        steps.append(("imputer", imputer))
    if treatment[0] == "category":
        known = np.sort([code for code in encoding.codes(columns[0]) if code >= 0])
        encoder = OneHotEncoder(categories=[known], handle_unknown="ignore", sparse_output=False)
        steps.append(("one_hot", encoder))
    elif treatment[0] == "number" and scale:
        steps.append((SCALER, StandardScaler()))
    name = f"{treatment[0]}_{positions[0]}"
    if not steps:
        return name, "passthrough", positions
    return name, steps[0][1] if len(steps) == 1 else SklearnPipeline(steps), positions


def _imputer(feature: Feature) -> SimpleImputer | None:
    if feature.missing in ("reject", "separate"):
        return None
    if feature.missing == "constant":
        value: Any = feature.constant
        if feature.type == "category":
            value = feature.category_codes[value]
        return SimpleImputer(strategy="constant", fill_value=float(value), keep_empty_features=True)
    return SimpleImputer(strategy=feature.missing, keep_empty_features=True)
