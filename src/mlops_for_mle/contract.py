"""The contract of a table: its columns, types, ranges and target, read once from parameters.

Ingestion, training, the model's signature, the request and response models of the API and
monitoring all derive from it, so no other module names a column.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from mlops_for_mle.configuration import Configuration, parse_configuration
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.feature import DiscreteValue, Feature, FeatureType, checked_name

__all__ = ["Contract", "Feature", "FeatureType", "Target", "TargetClass"]

Task = Literal["classification", "regression"]

ColumnName = Annotated[str, AfterValidator(checked_name)]

RESERVED_RESPONSE_NAMES = frozenset(
    {"label", "probabilities", "prediction_id", "model_version", "release"}
)

PREDICTION_COLUMNS = (
    *("id", "timestamp", "source", "source_id", "row_key", "model_version", "release"),
    *("scored_at", "row_number"),
)
"""What stands beside the prediction in the tables and files that scoring writes."""

OWN_TABLES = frozenset(
    {
        *("alembic_version", "deployments", "feedback", "idempotency_keys", "ingestion_batches"),
        *("monitoring_metrics", "monitoring_runs", "predictions", "rejected_rows"),
        *("retraining_decisions", "scoring_queue", "scoring_rejects"),
    }
)
"""Tables that every contract shares."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")


class TargetClass(Configuration):
    """One class of a classification target.

    Attributes:
        value: What the table holds: a whole number or text.
        label: Its name for people; the value itself where none is given.
    """

    value: DiscreteValue
    label: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _label_is_the_value_by_default(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and "value" in raw and raw.get("label") is None:
            return {**raw, "label": str(raw["value"])}
        return raw


class Target(Configuration):
    """The column that the model predicts.

    Attributes:
        column: Its name in the table.
        task: ``classification`` or ``regression``.
        response_name: The name of the prediction in an answer of the API.
        classes: All classes of a classification target; empty for regression. Their values are
            all whole numbers, in ascending order, or all text, in any order.
        minimum: Smallest accepted value of a regression target, inclusive.
        maximum: Largest accepted value of a regression target, inclusive.
    """

    column: ColumnName
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
        if len({type(value) for value in values}) > 1:
            raise ValueError(
                "classes must have values that are all text or all whole numbers; put numbers in "
                "quotes to make them text"
            )
        has_text = bool(values) and isinstance(values[0], str)
        if len(set(labels)) != len(labels) or len(set(values)) != len(values):
            raise ValueError(
                f"classes must have distinct labels and values, found {self._described_classes()}"
            )
        if not has_text and values != sorted(values):
            raise ValueError(
                "classes must have distinct labels and values in ascending order, found "
                f"{self._described_classes()}"
            )
        return self

    @cached_property
    def has_text_classes(self) -> bool:
        """Whether the table holds the classes as text."""
        return bool(self.classes) and isinstance(self.classes[0].value, str)

    @cached_property
    def class_values(self) -> tuple[int | str, ...]:
        """The values of the classes as the table holds them, in the contract's order."""
        return tuple(one.value for one in self.classes)

    @cached_property
    def class_codes(self) -> tuple[int, ...]:
        """What the model answers for each class: its value, or its place where that is text."""
        return tuple(
            place if isinstance(one.value, str) else one.value
            for place, one in enumerate(self.classes)
        )

    @cached_property
    def codes(self) -> dict[int | str, int]:
        """The model's answer for each value of the table."""
        return dict(zip(self.class_values, self.class_codes, strict=True))

    @cached_property
    def values(self) -> dict[int, int | str]:
        """The table's value for each answer of the model."""
        return dict(zip(self.class_codes, self.class_values, strict=True))

    @cached_property
    def labels(self) -> dict[int, str]:
        """The name of the class for each answer of the model."""
        return {code: one.label for code, one in zip(self.class_codes, self.classes, strict=True)}

    def _described_classes(self) -> str:
        return ", ".join(f"{one.value} ({one.label})" for one in self.classes)


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
    table: ColumnName
    key: ColumnName = "id"
    timestamp: ColumnName = "timestamp"
    features: dict[ColumnName, Feature] = Field(min_length=1)
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
        contract = parse_configuration(cls, raw, "contract")
        # Only here: releases that were made before still load.
        contract._check_names_in_own_tables()
        return contract

    def _check_names_in_own_tables(self) -> None:
        name = self.target.response_name
        if name in PREDICTION_COLUMNS:
            raise ConfigurationError(
                "contract.target.response_name: predictions have other columns named "
                f"{', '.join(PREDICTION_COLUMNS)}; name another, such as predicted_{name} "
                f"(found {name!r})"
            )
        try:
            checked_name(name)
        except ValueError as error:
            raise ConfigurationError(
                "contract.target.response_name: is also a column of a table, and "
                f"{str(error).split(': rename')[0]} (found {name!r})"
            ) from None
        if self.table in {*OWN_TABLES, f"{self.name}_prediction"}:
            raise ConfigurationError(
                "contract.table: is a table that the project keeps for itself; name another, such "
                f"as {self.name}_data (found {self.table!r})"
            )

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in the order in which the model takes them."""
        return tuple(self.features)

    @cached_property
    def data_columns(self) -> tuple[str, ...]:
        """The columns that a source must give: the features, then the target."""
        return (*self.features, self.target.column)
