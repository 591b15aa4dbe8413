"""The contract of a table: its columns, what they may hold, and the target.

Ingestion, training, the API and monitoring derive from it, so no other module names a column.
"""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    model_validator,
)

FeatureType = Literal["float", "integer", "decimal", "boolean", "category", "date", "timestamp"]
MissingPolicy = Literal["reject", "median", "mean", "most_frequent", "constant", "separate"]
Task = Literal["classification", "regression"]

NUMBER_TYPES: frozenset[FeatureType] = frozenset({"float", "integer", "decimal"})
TIME_TYPES: frozenset[FeatureType] = frozenset({"date", "timestamp"})
MAX_CATEGORIES = 1000
EXACT_BELOW = 2**53
"""From here on two whole numbers can have the same float64."""
MAX_NAME_BYTES = 63
"""Bytes in UTF-8; PostgreSQL cuts longer identifiers."""

MISSING_POLICIES: Mapping[FeatureType, tuple[MissingPolicy, ...]] = {
    **dict.fromkeys(NUMBER_TYPES, ("reject", "median", "mean", "most_frequent", "constant")),
    "boolean": ("reject", "most_frequent", "constant"),
    "category": ("reject", "most_frequent", "constant", "separate"),
    **dict.fromkeys(TIME_TYPES, ("reject", "median", "most_frequent")),
}

RESERVED_RESPONSE_NAMES = frozenset(
    {
        *("label", "probabilities", "prediction_id", "model_version", "release"),
        *("outside_training", "explanation"),
        *("id", "timestamp", "source", "source_id", "row_key", "scored_at", "row_number"),
    }
)
"""What stands beside the prediction in answers of the API and in tables of predictions."""


class Configuration(BaseModel):
    """Base of every configuration object: immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __str__(self) -> str:
        """Compact JSON, which is what MLflow shows of a parameter that is an object."""
        return self.model_dump_json(exclude_none=True)


def normalised(name: str) -> str:
    """A name in Unicode's form NFC: letters that look the same are the same."""
    return unicodedata.normalize("NFC", name)


def as_utc(time: datetime) -> datetime:
    """A time in UTC and without a zone, as the table holds it."""
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def _fits_postgres(name: str) -> str:
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"a name has up to {MAX_NAME_BYTES} bytes: rename it by ingestion.rename")
    return name


def _is_free(name: str) -> str:
    if name in RESERVED_RESPONSE_NAMES:
        raise ValueError(f"{name} stands beside the prediction: name another, predicted_{name}")
    return name


Name = Annotated[str, AfterValidator(normalised)]
ColumnName = Annotated[
    Name, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]*$"), AfterValidator(_fits_postgres)
]
DiscreteValue = (
    Annotated[StrictInt, Field(gt=-EXACT_BELOW, lt=EXACT_BELOW)]
    | Annotated[StrictStr, Field(min_length=1)]
)
"""A category or a class as the table holds it; blank text stands for a missing value."""
UtcTime = Annotated[datetime, AfterValidator(as_utc)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Feature(Configuration):
    """One input column of the model. Ranges include their ends.

    Attributes:
        type: What the table holds: ``float`` (double precision), ``integer`` (bigint),
            ``decimal`` (numeric; ingestion and the model take its nearest double), ``boolean``,
            ``category`` (text, or bigint for integer codes), ``date``, ``timestamp`` (without a
            zone, UTC).
        categories: All known categories, in the order of the model's codes: all text or all
            whole numbers.
        unknown: What a category that is not listed does: ``reject`` refuses the row, ``other``
            takes it as none of the known ones.
        missing: What a missing value does. ``reject`` refuses the row. ``median``, ``mean`` and
            ``most_frequent`` put the statistic of the training rows in its place, ``constant``
            the value of ``constant``; ``separate`` makes it a category of its own.
    """

    type: FeatureType = "float"
    unit: str | None = None
    minimum: Number | None = None
    maximum: Number | None = None
    earliest: UtcTime | None = None
    latest: UtcTime | None = None
    description: str | None = None
    categories: tuple[DiscreteValue, ...] = Field(default=(), max_length=MAX_CATEGORIES)
    unknown: Literal["reject", "other"] = "reject"
    missing: MissingPolicy = "reject"
    constant: bool | int | float | str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_parts(cls, keys: Any) -> Any:
        # Of models from when the parts of a date could be chosen, and were not.
        if isinstance(keys, dict) and keys.get("parts") == []:
            return {name: value for name, value in keys.items() if name != "parts"}
        return keys

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> Self:
        goes_with = {
            ("minimum", "maximum"): self.is_number,
            ("earliest", "latest"): self.is_time,
            ("categories", "unknown"): self.type == "category",
        }
        for names, fits in goes_with.items():
            for name in names:
                if not fits and getattr(self, name) != Feature.model_fields[name].default:
                    raise ValueError(f"{name} does not go with type {self.type}")
        allowed = MISSING_POLICIES[self.type]
        if self.missing not in allowed:
            raise ValueError(
                f"missing: {self.missing} does not go with type {self.type}; allowed: "
                f"{', '.join(allowed)}"
            )
        for low, high in ((self.minimum, self.maximum), (self.earliest, self.latest)):
            if low is not None and high is not None and not low < high:  # type: ignore[operator]
                raise ValueError(f"{low} must be below {high}")
        if self.type == "category":
            _check_discrete("categories", self.categories, at_least=1)
        if self.missing == "constant" and not self._has_constant():
            raise ValueError("missing: constant needs constant, a value of the feature's type")
        return self

    @property
    def is_number(self) -> bool:
        """Whether the model is given the value itself."""
        return self.type in NUMBER_TYPES

    @property
    def is_time(self) -> bool:
        """Whether the model is given parts of a date or time."""
        return self.type in TIME_TYPES

    @property
    def is_optional(self) -> bool:
        """Whether a value may be missing."""
        return self.missing != "reject"

    @property
    def is_text(self) -> bool:
        """Whether the table holds text, the names of categories."""
        return bool(self.categories) and isinstance(self.categories[0], str)

    @property
    def has_integer_categories(self) -> bool:
        """Whether categories are whole numbers rather than text."""
        return bool(self.categories) and not self.is_text

    @cached_property
    def category_codes(self) -> dict[int | str, int]:
        """The model's code of each category: its place in the list."""
        return {value: code for code, value in enumerate(self.categories)}

    def _has_constant(self) -> bool:
        if self.type == "category":
            return self.constant in self.categories
        is_boolean = isinstance(self.constant, bool)
        return is_boolean == (self.type == "boolean") and isinstance(self.constant, int | float)


class TargetClass(Configuration):
    """One class of a classification target.

    The label is its name for people; the value of the table itself where none is given.
    """

    value: DiscreteValue
    label: str = Field(default_factory=lambda data: str(data.get("value")), min_length=1)


class Target(Configuration):
    """The column that the model predicts.

    Attributes:
        response_name: The name of the prediction in an answer of the API.
        classes: All classes of a classification target; empty for regression. Their values are
            all whole numbers, in ascending order, or all text, in any order.
        minimum: Smallest accepted value of a regression target, as ``maximum`` is the largest.
    """

    column: ColumnName
    task: Task = "classification"
    response_name: Annotated[ColumnName, AfterValidator(_is_free)]
    classes: tuple[TargetClass, ...] = ()
    minimum: Number | None = None
    maximum: Number | None = None

    @model_validator(mode="after")
    def _classes_fit_the_task(self) -> Self:
        if self.task == "regression":
            if self.classes:
                raise ValueError("regression takes no classes")
            return self
        _check_discrete("classes", tuple(class_.value for class_ in self.classes), at_least=2)
        _check_distinct("labels of classes", tuple(class_.label for class_ in self.classes))
        if not self.feature.is_text and list(self.class_codes) != sorted(self.class_codes):
            raise ValueError(f"numbers of classes must ascend, found {self.class_codes}")
        return self

    @cached_property
    def feature(self) -> Feature:
        """What the column may hold, in the terms of a feature: its rules are the same."""
        if self.task == "classification":
            return Feature(type="category", categories=tuple(self.codes))
        return Feature(minimum=self.minimum, maximum=self.maximum)

    @cached_property
    def class_codes(self) -> tuple[int, ...]:
        """What the model answers for each class: its value, or its place where that is text."""
        return tuple(self.codes.values())

    @cached_property
    def codes(self) -> dict[int | str, int]:
        """The model's answer for each value of the table, in the contract's order."""
        return {
            class_.value: position if isinstance(class_.value, str) else class_.value
            for position, class_ in enumerate(self.classes)
        }

    @cached_property
    def values(self) -> dict[int, int | str]:
        """The table's value for each answer of the model."""
        return {code: value for value, code in self.codes.items()}

    @cached_property
    def labels(self) -> dict[int, str]:
        """The name of the class for each answer of the model."""
        return {self.codes[class_.value]: class_.label for class_ in self.classes}


class Contract(Configuration):
    """What is known of one table and of the model that is trained on it.

    Attributes:
        name: Names the registered model, its releases and its rows in the audit tables.
        table: The Postgres table of observations.
        key: Its serial primary key.
        timestamp: When a row was observed; the database's clock where a source has none.
        group: What rows belong together by, such as a customer: kept as text, and no feature. See
            ``training.split``.
        features: The input columns by name, in the order in which the model takes them.
        target: The column that is predicted.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
    table: ColumnName
    key: ColumnName = "id"
    timestamp: ColumnName = "timestamp"
    group: ColumnName | None = None
    features: dict[ColumnName, Feature] = Field(min_length=1)
    target: Target

    @model_validator(mode="after")
    def _columns_are_distinct(self) -> Self:
        names = (self.key, self.timestamp, self.group, *self.features, self.target.column)
        columns = tuple(name for name in names if name is not None)
        _check_distinct("key, timestamp, group, features and target", columns)
        # A batch writes the key beside these.
        batch_columns = ("row_number", "label", "probabilities", "model_version", "release")
        if self.key in (*batch_columns, self.target.response_name):
            raise ValueError(f"key: predictions have a column {self.key}, too: name it otherwise")
        return self

    @cached_property
    def columns(self) -> dict[str, Feature]:
        """The columns that a source must give: the features, the group if any, then the target."""
        # Any text, and none at all.
        text = Feature(type="category", categories=("any",), unknown="other", missing="separate")
        group = {self.group: text} if self.group else {}
        return {**self.features, **group, self.target.column: self.target.feature}


def _check_discrete(name: str, values: tuple[int | str, ...], at_least: int) -> None:
    if len(values) < at_least:
        raise ValueError(f"{name} needs at least {at_least}, the known ones")
    if len({type(value) for value in values}) > 1:
        raise ValueError(
            f"{name} must be all text or all whole numbers; put numbers in quotes to make them text"
        )
    _check_distinct(name, values)


def _check_distinct(name: str, values: tuple[int | str, ...]) -> None:
    duplicates = sorted({str(value) for value in values if values.count(value) > 1})
    if duplicates:
        raise ValueError(f"{name} has {', '.join(duplicates)} twice")
