"""The reference: how the rows that the deployed release was trained on lie in each column."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract, Feature, Target
from mlops_for_mle.contract.model import FeatureType
from mlops_for_mle.frame_encoding import encode_frame, naive_times, plain_column
from mlops_for_mle.predictor import Predictor
from mlops_for_mle.records_monitoring import (
    CategoryColumn,
    DeployedRelease,
    NumericColumn,
    ReferenceColumn,
    ReferenceProfile,
)

PREDICTION = "prediction"

Numbers = npt.NDArray[np.float64]

# The one place that decides how a feature is counted.
_KINDS: dict[FeatureType, Literal["numeric", "category"]] = {
    "float": "numeric",
    "integer": "numeric",
    "decimal": "numeric",
    "boolean": "category",
    "category": "category",
    "date": "numeric",
    "timestamp": "numeric",
}


def describe(deployed: DeployedRelease, bins: int) -> ReferenceProfile:
    """Describe a release's snapshot and what the release answers for it.

    Args:
        deployed: The release with its snapshot.
        bins: Into how many bins numbers are sorted.
    """
    manifest = deployed.release.manifest
    contract, rows = manifest.contract, deployed.snapshot
    features = tuple(
        describe_feature(name, feature, rows[name], bins)
        for name, feature in contract.features.items()
    )
    answers = _answers(deployed)
    codes = class_codes(contract.target)
    prediction = (
        ReferenceColumn(
            CategoryColumn(PREDICTION, tuple(one.label for one in contract.target.classes)),
            tuple(int((answers == code).sum()) for code in codes),
        )
        if codes
        else describe_numbers(PREDICTION, answers, bins)
    )
    return ReferenceProfile(
        contract=contract,
        release=manifest.release,
        model_version=manifest.model.version,
        metrics=manifest.model.metrics,
        row_count=len(rows),
        watermark=manifest.snapshot.watermark,
        features=features,
        prediction=prediction,
        class_codes=codes,
        target_scale=1.0 if codes else _deviation(_numbers(rows[contract.target.column])),
    )


def class_codes(target: Target) -> tuple[float, ...]:
    """The classes as they stand in the prediction log; empty for regression."""
    return tuple(map(float, target.class_codes))


def describe_feature(
    name: str, feature: Feature, values: "pd.Series[Any]", bins: int
) -> ReferenceColumn:
    """Sort a feature's values into bins or categories, by its type."""
    if _KINDS[feature.type] == "category":
        return describe_categories(name, plain_column(values, feature))
    numbers = _seconds(values) if feature.is_time else _numbers(values)
    column = describe_numbers(name, numbers, bins)
    numeric = column.column
    if not isinstance(numeric, NumericColumn):
        raise TypeError("numbers are described as such")
    bounded = NumericColumn(
        **{
            **vars(numeric),
            "minimum": _moment(feature.earliest) if feature.is_time else feature.minimum,
            "maximum": _moment(feature.latest) if feature.is_time else feature.maximum,
            "is_whole": feature.type == "integer",
            "is_time": feature.is_time,
        }
    )
    return ReferenceColumn(bounded, column.counts)


def describe_categories(name: str, values: Iterable[Any]) -> ReferenceColumn:
    """Count each category that plain values have; missing values do not count."""
    present = (one for one in values if not (one is None or one != one))  # noqa: PLR0124  (NaN)
    texts = Counter(one if isinstance(one, str) else json.dumps(one) for one in present)
    names = sorted(texts)
    return ReferenceColumn(CategoryColumn(name, tuple(names)), tuple(texts[one] for one in names))


def describe_numbers(name: str, values: Numbers, bins: int) -> ReferenceColumn:
    """Sort numbers into bins of about equally many; missing values do not count."""
    edges = bin_edges(values, bins)
    numbers = np.searchsorted(edges, values, side="right")
    counts = np.bincount(numbers, minlength=len(edges) + 1)
    column = NumericColumn(
        name=name,
        edges=tuple(edges.tolist()),
        centre=float(values.mean()) if len(values) else 0.0,
        scale=_deviation(values),
    )
    return ReferenceColumn(column, tuple(map(int, counts)))


def bin_edges(values: Numbers, bins: int) -> Numbers:
    """Edges between bins of about equally many values.

    An edge lies half way between two values that occur, so that a value which was rounded on its
    way, to 32 bits for example, stays in its bin. A single value has a narrow bin of its own.
    """
    distinct = np.unique(values)
    if len(distinct) == 0:
        return distinct
    if len(distinct) == 1:
        width = 1e-6 * max(1.0, abs(float(distinct[0])))
        return np.array([distinct[0] - width, distinct[0] + width])
    quantiles = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    # Between the value at the quantile and the next larger one.
    positions = np.unique(np.searchsorted(distinct, quantiles, side="right"))
    positions = positions[positions < len(distinct)]
    if len(positions) == 0:
        # Nearly all values are the largest one.
        positions = np.array([len(distinct) - 1])
    middles: Numbers = distinct[positions - 1] / 2 + distinct[positions] / 2
    return np.unique(middles)


def _answers(deployed: DeployedRelease) -> Numbers:
    contract = deployed.release.manifest.contract
    rows = encode_frame(deployed.snapshot, contract).to_numpy(dtype=np.float64)
    return Predictor(deployed.release).predict(rows).values.astype(np.float64)


def _numbers(values: "pd.Series[Any]") -> Numbers:
    found: Numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return found[np.isfinite(found)]


def _seconds(values: "pd.Series[Any]") -> Numbers:
    """Times as seconds since 1970, as the prediction log's text is counted."""
    times = naive_times(values.dropna()).to_numpy().astype("datetime64[us]")
    seconds: Numbers = times.astype(np.int64).astype(np.float64) / 1e6
    return seconds


def _moment(limit: datetime | None) -> float | None:
    return None if limit is None else limit.replace(tzinfo=UTC).timestamp()


def _deviation(values: Numbers) -> float:
    found = float(values.std()) if len(values) else 0.0
    return found if found > 0 else 1.0


def free_subject(name: str, contract: Contract) -> str:
    """A subject's name, in parentheses where a feature has the same one."""
    while name in contract.features:
        name = f"({name})"
    return name
