"""The reference: how the rows that the deployed release was trained on lie in each column."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.columns import encode_rows, frame_digest, plain_column, to_array
from mlops_for_mle.contract.encoding import encode_target
from mlops_for_mle.errors import ConfigurationError, ReleaseError
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, SegmentOptions
from mlops_for_mle.releases.manifest import Manifest, Release
from mlops_for_mle.releases.predictor import Predictions, load

PREDICTION = "prediction"

_MOST_PARTS = 20
# So many rows with the mean error of all are added to each bin, since a bin may have few.
_ADDED_ROWS = 5

Numbers = npt.NDArray[np.float64]
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
    counts: tuple[int, ...] = ()
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

    def holding(self, numbers: Numbers) -> "Column":
        """The same bins with these values as the reference; NaN is missing."""
        present = numbers[np.isfinite(numbers)]
        places = np.searchsorted(self.edges, present, side="right")
        return replace(
            self,
            counts=tuple(np.bincount(places, minlength=len(self.edges) + 1).tolist()),
            missing=1 - len(present) / max(1, len(numbers)),
            centre=float(present.mean()) if len(present) else 0.0,
            scale=_deviation(present),
        )


@dataclass(frozen=True)
class Expectation:
    """How good answers are expected to be before their labels are known, by the validation rows.

    Attributes:
        surplus: How much more often classes are right than their probabilities say.
        errors: The mean error of numbers, squared for ``rmse``, by the bin of ``prediction`` that
            they fall into; empty for classes.
        variation: The standard deviation of single errors, in units of their mean.
    """

    row_count: int
    surplus: float = 0.0
    errors: tuple[float, ...] = ()
    variation: float = 0.0


@dataclass(frozen=True)
class Segment:
    """What tells rows apart: a category, or a part of a date or time.

    ``names`` are of its parts, by the number that each is known by: the place of the category, or
    what Postgres' ``extract`` gives.
    """

    feature: str
    by: str | None
    names: dict[int, str]


@dataclass(frozen=True)
class Reference:
    """What a window is compared with: the release's features, and its answers for its snapshot.

    ``parts`` are the same of those rows alone that belong to a part of a segment, by its name.
    """

    manifest: Manifest
    features: tuple[Column, ...]
    prediction: Column
    target_scale: float = 1.0
    expectation: Expectation | None = None
    segments: tuple[Segment, ...] = ()
    parts: dict[str, "Reference"] = field(default_factory=dict)

    @property
    def contract(self) -> Contract:
        """The contract of the release."""
        return self.manifest.contract

    def subject(self, name: str) -> str:
        """A name for what is no feature, in parentheses where a feature is called like it."""
        while name in self.contract.features:
            name = f"({name})"
        return name


class Deployed(NamedTuple):
    """A release, the rows that it was trained and validated on, and the latter alone."""

    release: Release
    snapshot: pd.DataFrame
    validation: pd.DataFrame


def describe_reference(deployed: Deployed, monitoring: MonitoringOptions) -> Reference:
    """Describe the rows that the deployed release was trained on, and its answers for them.

    Raises:
        ReleaseError: They are not those that it was trained on.
        ConfigurationError: A parameter does not fit the contract.
    """
    release, snapshot, validation = deployed
    manifest = release.manifest
    if frame_digest(snapshot) != manifest.snapshot.sha256:
        raise ReleaseError(
            f"The snapshot of run {manifest.run_id} was altered, so nothing can be compared with "
            f"what {manifest.release} was trained on: train and deploy again."
        )
    contract, target, bins = manifest.contract, manifest.contract.target, monitoring.drift.bins
    predictor, scale = load(release), 1.0
    numbers: Numbers
    answers = predictor.predict(encode_rows(snapshot, contract)).values
    if target.classes:
        labels = tuple(one.label for one in target.classes)
        prediction = Column(PREDICTION, "class", _places(labels), categories=labels)
        numbers = np.asarray(np.searchsorted(target.class_codes, answers) + 1, np.float64)
    else:
        numbers = np.asarray(answers, np.float64)
        prediction = Column(PREDICTION, "answer", tuple(bin_edges(numbers, bins).tolist()))
        scale = _deviation(to_array(snapshot[target.column], target.feature))
    read = {
        name: read_feature(name, one, snapshot[name], bins)
        for name, one in contract.features.items()
    }
    metric = performance_metric(contract, monitoring)
    validated = predictor.predict(encode_rows(validation, contract))
    truth = encode_target(validation[target.column].tolist(), target)
    whole = Reference(
        manifest,
        features=tuple(column.holding(values) for column, values in read.values()),
        prediction=prediction.holding(numbers),
        target_scale=scale,
        expectation=expect(validated, truth, contract, prediction.edges, metric),
    )
    segments, parts = [], {}
    for option in monitoring.segments:
        if option.feature not in read:
            known = ", ".join(read)
            raise ConfigurationError(f"monitoring.segments: {option.feature} is none of {known}")
        segment, keys = divide(option, *read[option.feature])
        segments.append(segment)
        for key, name in segment.names.items():
            parts[name] = replace(
                whole,
                features=tuple(
                    column.holding(values[keys == key]) for column, values in read.values()
                ),
                prediction=prediction.holding(numbers[keys == key]),
            )
    return replace(whole, segments=tuple(segments), parts=parts)


def performance_metric(contract: Contract, monitoring: MonitoringOptions) -> str:
    """By what the answers are measured; a ``ConfigurationError`` where their kind has no such."""
    task = contract.target.task
    allowed = ("accuracy",) if contract.target.classes else ("rmse", "mae")
    metric = monitoring.performance.metric or allowed[0]
    if metric not in allowed:
        raise ConfigurationError(
            f"monitoring.performance.metric: {task} is measured by {' or '.join(allowed)} "
            f"(found {metric!r})"
        )
    return metric


def read_feature(
    name: str, feature: Feature, values: "pd.Series[Any]", bins: int
) -> tuple[Column, Numbers]:
    """The bins of a feature by its type and values, and the values as numbers; NaN is missing."""
    if not feature.is_number and not feature.is_time:
        texts = [
            one if one is None or isinstance(one, str) else json.dumps(one)
            for one in plain_column(values, feature)
        ]
        categories = tuple(sorted({one for one in texts if one is not None}))
        places = dict(zip(categories, _places(categories), strict=True))
        numbers = np.array([np.nan if one is None else places[one] for one in texts], np.float64)
        return Column(name, "category", _places(categories), categories=categories), numbers
    kind: Kind = "whole" if feature.type == "integer" else "number"
    limits, numbers = (feature.minimum, feature.maximum), to_array(values, feature)
    if feature.is_time:
        kind, limits = "time", (_seconds(feature.earliest), _seconds(feature.latest))
        times = numbers.astype("datetime64[us]")
        numbers = np.where(np.isnat(times), np.nan, times.astype(np.int64) / 1e6)
    edges = tuple(bin_edges(numbers[np.isfinite(numbers)], bins).tolist())
    return Column(name, kind, edges, minimum=limits[0], maximum=limits[1]), numbers


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


def expect(
    answers: Predictions,
    truth: npt.NDArray[Any],
    contract: Contract,
    edges: tuple[float, ...],
    metric: str,
) -> Expectation | None:
    """Learn how good answers are from those for the validation rows; None without probabilities.

    The accuracy of other rows is that of the validation rows, plus what the mean probability of the
    answered classes differs by (difference of confidences, Guillory et al. 2021). So probabilities
    need not be calibrated. All of it holds while what follows from a row stays as it was.
    """
    if contract.target.classes:
        if answers.probabilities is None:
            return None
        places = np.searchsorted(contract.target.class_codes, answers.values)
        said = answers.probabilities[np.arange(len(places)), places]
        return Expectation(len(truth), float((answers.values == truth).mean() - said.mean()))
    errors = np.abs(answers.values - truth) ** (2 if metric == "rmse" else 1)
    mean, bins = float(errors.mean()), len(edges) + 1
    places = np.searchsorted(edges, answers.values, side="right")
    sums, counts = np.bincount(places, errors, bins), np.bincount(places, minlength=bins)
    by_bin = (sums + _ADDED_ROWS * mean) / (counts + _ADDED_ROWS)
    variation = float(errors.std()) / mean if mean > 0 else 0.0
    return Expectation(len(truth), errors=tuple(by_bin.tolist()), variation=variation)


def divide(option: SegmentOptions, column: Column, numbers: Numbers) -> tuple[Segment, Numbers]:
    """The parts of the reference by a feature, the largest ones, and each row's number."""
    name, by = option.feature, option.by
    if column.kind == "category" and by is None:
        keys = numbers
    elif column.kind == "time" and by is not None:
        index = pd.DatetimeIndex((numbers * 1e6).astype("datetime64[us]"))
        # From Monday, which is 1 in Postgres.
        found = index.day_of_week + 1 if by == "weekday" else getattr(index, by)
        keys = found.to_numpy(np.float64)
    else:
        raise ConfigurationError(
            f"monitoring.segments: {name} must be a category, or a date or time by its year, "
            "quarter, month, weekday or hour: {feature: " + name + ", by: month}"
        )
    present, counts = np.unique(keys[np.isfinite(keys)].astype(int), return_counts=True)
    largest = sorted(present[np.argsort(-counts, kind="stable")][:_MOST_PARTS].tolist())
    names = {
        key: f"{name} {by}={key}" if by else f"{name}={column.categories[key - 1]}"
        for key in largest
    }
    return Segment(name, by, names), keys


def _places(names: Iterable[str]) -> tuple[float, ...]:
    return tuple(float(place) for place, _ in enumerate(names, start=1))


def _seconds(limit: datetime | None) -> float | None:
    return None if limit is None else limit.replace(tzinfo=UTC).timestamp()


def _deviation(values: Numbers) -> float:
    found = float(values.std()) if len(values) else 0.0
    return found if found > 0 else 1.0
