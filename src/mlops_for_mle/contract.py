"""The contract of a table: its columns, types, ranges and target, read once from parameters.

Ingestion, training, the model's signature, the request and response models of the API and
monitoring all derive from it, so no other module names a column.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mlops_for_mle.configuration import Configuration, parse_configuration

FeatureType = Literal["float", "integer"]
Task = Literal["classification", "regression"]

RESERVED_RESPONSE_NAMES = frozenset(
    {"label", "probabilities", "prediction_id", "model_version", "release"}
)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")


class Feature(Configuration):
    """One input column of the model.

    Attributes:
        type: ``float`` (double precision in the table) or ``integer`` (bigint).
        unit: Shown to people; not used in computation.
        minimum: Smallest value that is accepted, inclusive.
        maximum: Largest value that is accepted, inclusive.
        description: Shown in the API's documentation and on its page.
    """

    type: FeatureType = "float"
    unit: str | None = None
    minimum: float | None = Field(default=None, allow_inf_nan=False)
    maximum: float | None = Field(default=None, allow_inf_nan=False)
    description: str | None = None

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"minimum {self.minimum:g} must be below maximum {self.maximum:g}")
        return self


class TargetClass(Configuration):
    """One class of a classification target: the value stored in the table and its name."""

    value: int
    label: str = Field(min_length=1)


class Target(Configuration):
    """The column that the model predicts.

    Attributes:
        column: Its name in the table.
        task: ``classification`` or ``regression``.
        response_name: The name of the prediction in an answer of the API.
        classes: All classes of a classification target; empty for regression.
        minimum: Smallest accepted value of a regression target, inclusive.
        maximum: Largest accepted value of a regression target, inclusive.
    """

    column: str = Field(min_length=1)
    task: Task = "classification"
    response_name: str = Field(min_length=1)
    classes: tuple[TargetClass, ...] = ()
    minimum: float | None = Field(default=None, allow_inf_nan=False)
    maximum: float | None = Field(default=None, allow_inf_nan=False)

    @field_validator("response_name")
    @classmethod
    def _response_name_is_free(cls, name: str) -> str:
        if name in RESERVED_RESPONSE_NAMES:
            raise ValueError(
                f"an answer has other fields named {', '.join(sorted(RESERVED_RESPONSE_NAMES))}"
            )
        return name

    @model_validator(mode="after")
    def _classes_fit_the_task(self) -> Self:
        values = [one.value for one in self.classes]
        labels = [one.label for one in self.classes]
        if self.task == "classification" and len(values) < 2:
            raise ValueError("classification needs at least two classes")
        if self.task == "regression" and values:
            raise ValueError("regression takes no classes")
        if len(set(labels)) != len(labels) or sorted(set(values)) != values:
            raise ValueError(
                "classes must have distinct labels and values in ascending order, found "
                f"{', '.join(f'{one.value} ({one.label})' for one in self.classes)}"
            )
        return self

    @cached_property
    def class_values(self) -> tuple[int, ...]:
        """The values of the classes, in the contract's order."""
        return tuple(one.value for one in self.classes)

    @cached_property
    def labels(self) -> dict[int, str]:
        """The name of each class by its value."""
        return {one.value: one.label for one in self.classes}


class Contract(Configuration):
    """What is known of one table and of the model that is trained on it.

    Attributes:
        name: Names the registered model, its releases and its rows in the audit tables.
        table: The Postgres table of observations.
        key: Its serial primary key.
        timestamp: When a row was observed; the database's clock where a source has none.
        features: The input columns by name, in the order in which the model takes them.
        target: The column that is predicted.
    """

    name: str
    table: str = Field(min_length=1, max_length=63)
    key: str = Field(default="id", min_length=1)
    timestamp: str = Field(default="timestamp", min_length=1)
    features: dict[str, Feature] = Field(min_length=1)
    target: Target

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                "allowed are 1 to 48 characters out of a-z, 0-9 and _, starting with a letter"
            )
        return name

    @model_validator(mode="after")
    def _columns_are_distinct(self) -> Self:
        columns = [self.key, self.timestamp, *self.features, self.target.column]
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise ValueError(
                f"a column can be one of key, timestamp, feature and target; twice: {twice}"
            )
        return self

    @classmethod
    def from_parameters(cls, raw: Mapping[str, Any] | None) -> Self:
        """Read the parameters block ``contract``.

        Raises:
            ConfigurationError: A key is missing or wrong; the message names it and what is allowed.
        """
        return parse_configuration(cls, raw, "contract")

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in the order in which the model takes them."""
        return tuple(self.features)

    @cached_property
    def data_columns(self) -> tuple[str, ...]:
        """The columns that a source must give: the features, then the target."""
        return (*self.features, self.target.column)
