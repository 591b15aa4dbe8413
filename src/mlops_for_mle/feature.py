"""One input column of a contract: its type, what it may hold and how missing values are treated."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mlops_for_mle.configuration import Configuration

FeatureType = Literal["float", "integer", "decimal", "boolean", "category", "date", "timestamp"]
UnknownPolicy = Literal["reject", "other"]
MissingPolicy = Literal["reject", "median", "mean", "most_frequent", "constant", "separate"]
DatePart = Literal["days_since_1970", "year", "month", "day", "day_of_week", "hour"]

NUMBER_TYPES: frozenset[FeatureType] = frozenset({"float", "integer", "decimal"})
TIME_TYPES: frozenset[FeatureType] = frozenset({"date", "timestamp"})
MAXIMUM_CATEGORIES = 1000
LONGEST_NAME = 63
"""Bytes in UTF-8; PostgreSQL cuts longer identifiers."""

MISSING_POLICIES: Mapping[FeatureType, tuple[MissingPolicy, ...]] = {
    **dict.fromkeys(NUMBER_TYPES, ("reject", "median", "mean", "most_frequent", "constant")),
    "boolean": ("reject", "most_frequent", "constant"),
    "category": ("reject", "most_frequent", "constant", "separate"),
    **dict.fromkeys(TIME_TYPES, ("reject", "median", "most_frequent")),
}

_DEFAULT_PARTS: Mapping[str, tuple[DatePart, ...]] = {
    "date": ("days_since_1970", "month", "day", "day_of_week"),
    "timestamp": ("days_since_1970", "month", "day", "day_of_week", "hour"),
}
_SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})
_EXACT_BELOW = 2**53


def _whole_or_text(value: Any) -> int | str:
    if isinstance(value, bool):
        raise ValueError(  # noqa: TRY004  (Pydantic takes no TypeError)
            "expected a whole number or text; YAML reads yes, no, on, off, true and false "
            "as booleans, so put the value in quotes"
        )
    if not isinstance(value, int | str):
        raise ValueError("expected a whole number or text; put text in quotes")  # noqa: TRY004
    if isinstance(value, str) and (not value.strip() or "\x00" in value):
        raise ValueError("blank text stands for a missing value")
    if isinstance(value, int) and abs(value) >= _EXACT_BELOW:
        raise ValueError("is too large to be kept exactly; put it in quotes to make it text")
    return value


DiscreteValue = Annotated[int | str, BeforeValidator(_whole_or_text)]
"""A category or a class as the table holds it."""


def checked_name(name: str) -> str:
    """A name that Postgres takes for a column or table, when it is quoted.

    Raises:
        ValueError: It is empty, too long, holds control characters or is reserved.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError("a name must be valid Unicode") from None
    if not 1 <= size <= LONGEST_NAME:
        raise ValueError(
            f"a name has 1 to {LONGEST_NAME} bytes in UTF-8 (a Hangul syllable takes 3), "
            f"this one has {size}: rename it under ingestion.rename"
        )
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise ValueError("a name cannot hold control characters such as tabs or line breaks")
    if name in _SYSTEM_COLUMNS:
        raise ValueError(
            "is a system column of every PostgreSQL table: rename it under ingestion.rename"
        )
    return name


class Feature(Configuration):
    """One input column of the model.

    Attributes:
        type: What the table holds: ``float`` (double precision), ``integer`` (bigint),
            ``decimal`` (numeric; the model computes with its nearest double), ``boolean``,
            ``category`` (text, or bigint for integer codes), ``date``, ``timestamp`` (without a
            zone, UTC).
        unit: Shown to people; not used in computation.
        minimum: Smallest number that is accepted, inclusive.
        maximum: Largest number that is accepted, inclusive.
        earliest: First date or time that is accepted, inclusive.
        latest: Last date or time that is accepted, inclusive.
        description: Shown in the API's documentation and on its page.
        categories: All known categories, in the order of the model's codes: all text or all
            whole numbers.
        unknown: What a category that is not listed does: ``reject`` refuses the row, ``other``
            takes it as none of the known ones.
        missing: What a missing value does. ``reject`` refuses the row. ``median``, ``mean`` and
            ``most_frequent`` put the statistic of the training rows in its place, ``constant``
            the value of ``constant``; ``separate`` makes it a category of its own.
        constant: What ``missing: constant`` puts in the place of a missing value.
        parts: Which numbers the model is given of a date or time. ``days_since_1970`` are whole
            days, ``day_of_week`` is 1 for Monday to 7 for Sunday, ``hour`` is 0 to 23.
    """

    type: FeatureType = "float"
    unit: str | None = None
    minimum: float | None = Field(default=None, allow_inf_nan=False)
    maximum: float | None = Field(default=None, allow_inf_nan=False)
    earliest: datetime | None = None
    latest: datetime | None = None
    description: str | None = None
    categories: tuple[DiscreteValue, ...] = Field(default=(), max_length=MAXIMUM_CATEGORIES)
    unknown: UnknownPolicy = "reject"
    missing: MissingPolicy = "reject"
    constant: bool | int | float | str | None = None
    parts: tuple[DatePart, ...] = ()

    @field_validator("categories", mode="before")
    @classmethod
    def _categories_are_few(cls, given: Any) -> Any:
        if isinstance(given, list | tuple) and len(given) > MAXIMUM_CATEGORIES:
            raise ValueError(
                f"{len(given)} categories, at most {MAXIMUM_CATEGORIES} are allowed: list the "
                "frequent ones and set unknown: other, or leave the column out"
            )
        return given

    @field_validator("earliest", "latest")
    @classmethod
    def _times_are_utc(cls, time: datetime | None) -> datetime | None:
        if time is None or time.tzinfo is None:
            return time
        return time.astimezone(UTC).replace(tzinfo=None)

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> Self:
        allowed: dict[str, bool] = {
            "minimum": self.is_number,
            "maximum": self.is_number,
            "earliest": self.is_time,
            "latest": self.is_time,
            "categories": self.type == "category",
            "parts": self.is_time,
            "constant": self.missing == "constant",
        }
        wrong = [name for name, fits in allowed.items() if not fits and self._is_given(name)]
        if self.type != "category" and self.unknown != "reject":
            wrong.append("unknown")
        if wrong:
            where = "missing: constant" if wrong == ["constant"] else f"type {self.type}"
            what = "goes only with" if wrong == ["constant"] else "does not go with"
            raise ValueError(f"{', '.join(wrong)} {what} {where}")
        return self

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"minimum {self.minimum:g} must be below maximum {self.maximum:g}")
        if self.earliest is not None and self.latest is not None and self.earliest >= self.latest:
            raise ValueError(f"earliest {self.earliest} must be before latest {self.latest}")
        return self

    @model_validator(mode="after")
    def _categories_are_sound(self) -> Self:
        if self.type != "category":
            return self
        if not self.categories:
            raise ValueError("a category needs categories, a list of all known ones")
        if len({type(one) for one in self.categories}) > 1:
            raise ValueError(
                "categories must be all text or all whole numbers; put numbers in quotes to make "
                "them text"
            )
        twice = sorted({str(one) for one in self.categories if self.categories.count(one) > 1})
        if twice:
            raise ValueError(f"categories has {', '.join(twice)} twice")
        return self

    @model_validator(mode="after")
    def _missing_fits_the_type(self) -> Self:
        policies = MISSING_POLICIES[self.type]
        if self.missing not in policies:
            raise ValueError(
                f"missing: {self.missing} does not go with type {self.type}; "
                f"allowed: {', '.join(policies)}"
            )
        if self.missing == "constant":
            self._check_constant()
        return self

    @model_validator(mode="after")
    def _parts_are_sound(self) -> Self:
        if len(set(self.parts)) != len(self.parts):
            raise ValueError(f"parts has one twice: {', '.join(self.parts)}")
        if self.type == "date" and "hour" in self.parts:
            raise ValueError("a date has no hour; use type timestamp")
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
    def has_integer_categories(self) -> bool:
        """Whether categories are whole numbers rather than text."""
        return bool(self.categories) and isinstance(self.categories[0], int)

    @cached_property
    def category_codes(self) -> dict[int | str, int]:
        """The model's code of each category: its place in the list."""
        return {value: code for code, value in enumerate(self.categories)}

    @cached_property
    def date_parts(self) -> tuple[DatePart, ...]:
        """The parts of a date or time that the model is given; none for other types."""
        return self.parts or _DEFAULT_PARTS.get(self.type, ())

    def _is_given(self, name: str) -> bool:
        return getattr(self, name) not in (None, ())

    def _check_constant(self) -> None:
        value = self.constant
        is_bool = isinstance(value, bool)
        if self.type == "boolean":
            fits, allowed = is_bool, "true or false"
        elif self.type == "category":
            fits = not is_bool and value in self.category_codes
            allowed = "one of categories"
        else:
            fits = not is_bool and isinstance(value, int | float)
            fits = fits and self._is_in_range(float(value))  # type: ignore[arg-type]
            allowed = "a number within minimum and maximum"
            if self.type == "integer":
                fits = fits and float(value).is_integer()  # type: ignore[arg-type]
                allowed = f"a whole {allowed.removeprefix('a ')}"
        if not fits:
            raise ValueError(f"missing: constant needs constant, {allowed} (found {value!r})")

    def _is_in_range(self, value: float) -> bool:
        low = -float("inf") if self.minimum is None else self.minimum
        high = float("inf") if self.maximum is None else self.maximum
        return low <= value <= high and abs(value) != float("inf")


DATE_PARTS: tuple[DatePart, ...] = get_args(DatePart)
