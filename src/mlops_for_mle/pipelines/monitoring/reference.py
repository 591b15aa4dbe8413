"""The reference: how the rows that the deployed release was trained on lie in each column."""

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.columns import encode_rows, encode_target, plain_column, to_array
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, SegmentOptions
from mlops_for_mle.releases.manifest import Manifest, Release
from mlops_for_mle.releases.predictor import Predictions, load_predictor

_BINS = 10
_MAX_SEGMENTS = 20
# So many rows with the mean error of all are added to each bin, since a bin may have few.
_ADDED_ROWS = 5

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BinnedColumn:
    """A feature, or the prediction: its bins, and how values lie in them.

    Attributes:
        kind: How a value is read as a number. Dates and times are seconds since 1970; a category
            or predicted class is its place among ``categories``, from 1, and 0 where it is none.
        edges: Ascending; a value counts in the bin whose number is how many edges are at most as
            large, so there is one bin more than edges and the outer ones are open.
        categories: The texts of categories, or the labels of classes.
        counts: How many values each bin has.
    """

    kind: Literal["number", "time", "category", "answer", "class"]
    edges: tuple[float, ...]
    categories: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    missing: int = 0

    @property
    def is_number(self) -> bool:
        """Whether its bins have an order."""
        return self.kind not in ("category", "class")

    @property
    def shares(self) -> list[float]:
        """Of all values, those in each bin."""
        return [count / max(1, sum(self.counts)) for count in self.counts]

    def counted(self, numbers: Numbers) -> "BinnedColumn":
        """The same bins with these values; NaN is missing."""
        present = numbers[np.isfinite(numbers)]
        bin_numbers = np.searchsorted(self.edges, present, side="right")
        counts = np.bincount(bin_numbers, minlength=len(self.edges) + 1)
        missing = len(numbers) - len(present)
        return replace(self, counts=tuple(counts.tolist()), missing=missing)

    def compare_shares(self, current: "BinnedColumn") -> list[tuple[str, float, float]]:
        """Each bin for people, and its share of these values and of others."""
        names = ["other", *self.categories]
        if self.is_number:
            edges = [self._edge(edge) for edge in self.edges]
            between = [f"{low} to {high}" for low, high in pairwise(edges)]
            names = [f"below {edges[0]}", *between, f"from {edges[-1]}"] if edges else ["all"]
        return list(zip(names, self.shares, current.shares, strict=True))

    def _edge(self, value: float) -> str:
        if self.kind != "time":
            return f"{value:.6g}"
        # Years of `datetime` end where those of a feature may, and an edge may lie beyond these.
        return str(np.datetime64(int(value), "s").astype("datetime64[m]"))


class Expectation(NamedTuple):
    """How good predictions are expected to be before their labels are known, by validation rows.

    Attributes:
        surplus: How much more often classes are right than their probabilities say, if any.
        errors: The mean squared error of numbers, by the bin of the prediction.
        variation: The standard deviation of single squared errors, in units of their mean.
    """

    row_count: int = 0
    surplus: float | None = None
    errors: tuple[float, ...] = ()
    variation: float = 0.0


@dataclass(frozen=True)
class Reference:
    """What a window is compared with: the features and predictions of the release's snapshot.

    ``options`` say how it is compared. ``columns_by_segment`` has the columns by name, the
    prediction last: of all rows by the empty name, of the rows of a segment by its name.
    ``segments`` has these names by number: the position of a category, from 1, or what Postgres'
    ``extract`` gives.
    """

    manifest: Manifest
    options: MonitoringOptions
    columns_by_segment: dict[str, dict[str, BinnedColumn]]
    expectation: Expectation
    segments: tuple[tuple[SegmentOptions, dict[int, str]], ...] = ()

    @property
    def contract(self) -> Contract:
        """The contract of the release."""
        return self.manifest.contract

    @property
    def columns(self) -> dict[str, BinnedColumn]:
        """The columns of all rows."""
        return self.columns_by_segment[""]

    @property
    def prediction_column(self) -> str:
        """The name of the prediction among the columns."""
        return [*self.columns][-1]


class DeployedRelease(NamedTuple):
    """A release, the rows that it was trained and validated on, and the latter alone."""

    release: Release
    snapshot: pd.DataFrame
    validation: pd.DataFrame


def describe_reference(deployed: DeployedRelease, monitoring: MonitoringOptions) -> Reference:
    """Describe the rows that the deployed release was trained on, and its predictions for them."""
    release, snapshot, validation = deployed
    manifest, contract = release.manifest, release.manifest.contract
    predictor, target = load_predictor(release), contract.target
    predicted = predictor.predict(encode_rows(snapshot, contract)).values.astype(np.float64)
    if target.classes:
        predicted = np.asarray(np.searchsorted(target.class_codes, predicted) + 1, np.float64)
        prediction = _named_bins("class", tuple(target.labels.values()))
    else:
        prediction = BinnedColumn("answer", bin_edges(predicted))
    columns = {
        name: read_feature(feature, snapshot[name]) for name, feature in contract.features.items()
    }
    name = "prediction"
    while name in columns:
        name = f"({name})"
    columns[name] = prediction, predicted

    segments, masks = [], {"": np.full(len(snapshot), fill_value=True)}
    for option in monitoring.segments:
        names, keys = _segment_keys(option, columns)
        segments.append((option, names))
        masks |= {name: keys == key for key, name in names.items()}
    columns_by_segment = {
        segment: {name: column.counted(values[mask]) for name, (column, values) in columns.items()}
        for segment, mask in masks.items()
    }
    predictions = predictor.predict(encode_rows(validation, contract))
    truth = encode_target(validation, target)
    expectation = expect(predictions, truth, contract, prediction.edges)
    return Reference(manifest, monitoring, columns_by_segment, expectation, tuple(segments))


def read_feature(feature: Feature, values: "pd.Series[Any]") -> tuple[BinnedColumn, Numbers]:
    """The bins of a feature by its type and values, and the values as numbers; NaN is missing."""
    if feature.is_time:
        numbers = (to_array(values, feature) - np.datetime64(0, "s")) / np.timedelta64(1, "s")
        return BinnedColumn("time", bin_edges(numbers)), numbers
    if feature.is_number:
        numbers = to_array(values, feature)
        return BinnedColumn("number", bin_edges(numbers)), numbers
    texts = [
        value if value is None or isinstance(value, str) else json.dumps(value)
        for value in plain_column(values, feature)
    ]
    codes, categories = pd.factorize(np.array(texts, dtype=object), sort=True)
    return _named_bins("category", tuple(categories)), np.where(codes < 0, np.nan, codes + 1.0)


def bin_edges(values: Numbers) -> tuple[float, ...]:
    """Edges between bins of about equally many values; NaN counts nowhere.

    An edge lies half way between two values that occur, so that a value which was rounded on its
    way, to 32 bits for example, stays in its bin. A single value has a narrow bin of its own.
    """
    present = values[np.isfinite(values)]
    distinct = np.unique(present)
    if len(distinct) < 2:
        width = 1e-6 * np.maximum(1.0, np.abs(distinct))
        return tuple(np.concatenate([distinct - width, distinct + width]).tolist())
    middles = distinct[:-1] / 2 + distinct[1:] / 2
    quantiles = np.quantile(present, np.arange(1, _BINS) / _BINS, method="inverted_cdf")
    indices = np.searchsorted(distinct, quantiles)
    return tuple(np.unique(middles[np.minimum(indices, len(middles) - 1)]).tolist())


def expect(
    predictions: Predictions, truth: npt.NDArray[Any], contract: Contract, edges: tuple[float, ...]
) -> Expectation:
    """How good predictions are, learned from validation rows (decision 0013 says why so)."""
    if contract.target.classes:
        if predictions.probabilities is None:
            return Expectation()
        class_indices = np.searchsorted(contract.target.class_codes, predictions.values)
        confidences = predictions.probabilities[np.arange(len(class_indices)), class_indices]
        accuracy = (predictions.values == truth).mean()
        return Expectation(len(truth), float(accuracy - confidences.mean()))
    errors = (predictions.values - truth) ** 2
    mean, bins = float(errors.mean()), len(edges) + 1
    bin_numbers = np.searchsorted(edges, predictions.values, side="right")
    sums, counts = np.bincount(bin_numbers, errors, bins), np.bincount(bin_numbers, minlength=bins)
    by_bin = (sums + _ADDED_ROWS * mean) / (counts + _ADDED_ROWS)
    variation = float(errors.std()) / mean if mean > 0 else 0.0
    return Expectation(len(truth), errors=tuple(by_bin.tolist()), variation=variation)


def _segment_keys(
    option: SegmentOptions, columns: dict[str, tuple[BinnedColumn, Numbers]]
) -> tuple[dict[int, str], Numbers]:
    """The names of the largest segments of the reference by a feature, and each row's number."""
    name, by = option.feature, option.by
    kind = columns[name][0].kind if name in columns else None
    if (kind, by is None) not in (("category", True), ("time", False)):
        raise ConfigurationError(
            f"monitoring.segments: {name} must be a category of the contract, or a date or time by "
            f"its year, quarter, month, weekday or hour: {{feature: {name}, by: month}}"
        )
    column, keys = columns[name]
    if by is not None:
        index = pd.DatetimeIndex((keys * 1e6).astype("datetime64[us]"))
        # From Monday, which is 1 in Postgres.
        calendar = index.day_of_week + 1 if by == "weekday" else getattr(index, by)
        keys = calendar.to_numpy(np.float64)
    largest = pd.Series(keys).value_counts().index[:_MAX_SEGMENTS].astype(int)
    names = {
        key: f"{name} {by}={key}" if by else f"{name}={column.categories[key - 1]}"
        for key in sorted(largest)
    }
    return names, keys


def _named_bins(kind: Literal["category", "class"], names: tuple[str, ...]) -> BinnedColumn:
    return BinnedColumn(kind, tuple(np.arange(1.0, len(names) + 1).tolist()), categories=names)
