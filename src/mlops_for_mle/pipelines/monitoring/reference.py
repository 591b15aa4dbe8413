"""The reference: how the rows that the deployed release was trained on lie in each column."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.columns import encode_rows, frame_digest, plain_column, to_array
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.releases.manifest import Manifest, Release

PREDICTION = "prediction"

Numbers = npt.NDArray[np.float64]
Limits = tuple[float | None, float | None]
Kind = Literal["number", "whole", "time", "category", "answer", "class"]


@dataclass(frozen=True)
class Column:
    """A feature, or the prediction, and the bins that its values are counted in.

    Attributes:
        kind: How a value is read as a number. Dates and times are seconds since 1970; a category
            or predicted class is its place among ``categories``, from 1, and 0 where it is none.
        edges: Ascending; a value counts in the bin whose number is how many edges are at most as
            large, so there is one bin more than edges and the outer ones are open.
        counts: The reference's values, one count a bin.
        centre: The reference's mean; values are summed up relative to it.
        scale: The reference's standard deviation, or 1 where that is 0.
        categories: The texts of categories, or the labels of classes.
    """

    name: str
    kind: Kind
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: float = 0.0
    centre: float = 0.0
    scale: float = 1.0
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether its bins have an order."""
        return self.kind not in ("category", "class")


@dataclass(frozen=True)
class Reference:
    """What a window is compared with: the release's features, and its answers for its snapshot."""

    manifest: Manifest
    features: tuple[Column, ...]
    prediction: Column
    target_scale: float = 1.0

    @property
    def contract(self) -> Contract:
        """The contract of the release."""
        return self.manifest.contract

    def subject(self, name: str) -> str:
        """A name for what is no feature, in parentheses where a feature is called like it."""
        while name in self.contract.features:
            name = f"({name})"
        return name


def describe_reference(
    deployed: tuple[Release, pd.DataFrame], monitoring: MonitoringOptions
) -> Reference:
    """Describe the rows that the deployed release was trained on, and its answers for them.

    Raises:
        ReleaseError: They are not those that it was trained on.
    """
    from mlops_for_mle.releases.predictor import Predictor

    release, snapshot = deployed
    manifest = release.manifest
    if frame_digest(snapshot) != manifest.snapshot.sha256:
        raise ReleaseError(
            f"The snapshot of run {manifest.run_id} was altered, so nothing can be compared with "
            f"what {manifest.release} was trained on: train and deploy again."
        )
    contract = manifest.contract
    bins, target, scale = monitoring.drift.bins, contract.target, 1.0
    predictor = Predictor(release.model, contract, manifest.threshold)
    answers = predictor.predict(encode_rows(snapshot, contract)).values
    if target.classes:
        answered = [target.labels[code] for code in answers.tolist()]
        labels = tuple(one.label for one in target.classes)
        prediction = describe_categories(PREDICTION, "class", answered, labels)
    else:
        prediction = describe_numbers(PREDICTION, "answer", answers.astype(np.float64), bins)
        scale = _deviation(to_array(snapshot[target.column], target.feature))
    features = tuple(
        describe_feature(name, one, snapshot[name], bins) for name, one in contract.features.items()
    )
    return Reference(manifest, features, prediction, scale)


def describe_feature(name: str, feature: Feature, values: "pd.Series[Any]", bins: int) -> Column:
    """Sort a feature's values into bins or categories, by its type."""
    if not feature.is_number and not feature.is_time:
        return describe_categories(name, "category", plain_column(values, feature))
    kind: Kind = "whole" if feature.type == "integer" else "number"
    limits, numbers = (feature.minimum, feature.maximum), to_array(values, feature)
    if feature.is_time:
        kind, limits = "time", (_seconds(feature.earliest), _seconds(feature.latest))
        times = numbers.astype("datetime64[us]")
        numbers = np.where(np.isnat(times), np.nan, times.astype(np.int64) / 1e6)
    return describe_numbers(name, kind, numbers, bins, limits)


def describe_categories(
    name: str, kind: Kind, values: list[Any], categories: tuple[str, ...] | None = None
) -> Column:
    """Count plain values by their text; the categories are those that occur, unless given."""
    present = [one for one in values if one is not None]
    counts = Counter(one if isinstance(one, str) else json.dumps(one) for one in present)
    known = categories or tuple(sorted(counts))
    edges = tuple(float(place) for place in range(1, len(known) + 1))
    missing = 1 - len(present) / max(1, len(values))
    in_bins = (0, *(counts[one] for one in known))
    return Column(name, kind, edges, in_bins, missing, categories=known)


def describe_numbers(
    name: str, kind: Kind, values: Numbers, bins: int, limits: Limits = (None, None)
) -> Column:
    """Sort numbers into bins of about equally many; NaN is missing."""
    present = values[np.isfinite(values)]
    edges = bin_edges(present, bins)
    places = np.searchsorted(edges, present, side="right")
    return Column(
        name,
        kind,
        edges=tuple(edges.tolist()),
        counts=tuple(np.bincount(places, minlength=len(edges) + 1).tolist()),
        missing=1 - len(present) / max(1, len(values)),
        centre=float(present.mean()) if len(present) else 0.0,
        scale=_deviation(present),
        minimum=limits[0],
        maximum=limits[1],
    )


def bin_edges(values: Numbers, bins: int) -> Numbers:
    """Edges between bins of about equally many values.

    An edge lies half way between two values that occur, so that a value which was rounded on its
    way, to 32 bits for example, stays in its bin. A single value has a narrow bin of its own.
    """
    distinct = np.unique(values)
    if len(distinct) < 2:
        width = 1e-6 * np.maximum(1.0, np.abs(distinct))
        return np.concatenate([distinct - width, distinct + width])
    quantiles = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    # Between the value at the quantile and the next larger one.
    positions = np.unique(np.searchsorted(distinct, quantiles, side="right"))
    positions = positions[positions < len(distinct)]
    if len(positions) == 0:
        # Nearly all values are the largest one.
        positions = np.array([len(distinct) - 1])
    middles: Numbers = distinct[positions - 1] / 2 + distinct[positions] / 2
    return np.unique(middles)


def _seconds(limit: datetime | None) -> float | None:
    return None if limit is None else limit.replace(tzinfo=UTC).timestamp()


def _deviation(values: Numbers) -> float:
    found = float(values.std()) if len(values) else 0.0
    return found if found > 0 else 1.0
