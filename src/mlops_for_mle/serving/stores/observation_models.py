"""Pydantic models of a contract's observations, made when a release comes into service.

Columns may have any name, so the models' own field names are numbered and the columns' names are
their aliases.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from mlops_for_mle.contract import Contract, Feature, Target
from mlops_for_mle.encoding import read_time
from mlops_for_mle.serving.formats.documents import DuplicateKey
from mlops_for_mle.serving.formats.feature_checks import describe, plain, shown_value
from mlops_for_mle.serving.formats.schemas import feature_schema
from mlops_for_mle.serving.formats.target_values import describe_target, read_target, target_schema
from mlops_for_mle.serving.http.problems import FieldError, shown, unprocessable
from mlops_for_mle.value_faults import fault_of

_TIME = "a time such as 2026-01-31T12:00:00Z; without an offset it is UTC"
_LARGEST_BIGINT = 2**63 - 1

_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is an unknown field",
    "finite_number": "is not finite",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
}


class ObservationModels:
    """What a client may write, and what it reads, for one contract.

    Attributes:
        contract: The contract.
        new: A complete observation without its key.
        change: Any part of an observation.
        stored: An observation as it is read. Another program may have written it, so it says
            nothing of ranges.
    """

    def __init__(self, contract: Contract) -> None:
        """Derive the models."""
        self.contract = contract
        target = contract.target

        def checked_target(value: Any) -> int | float | str:
            return read_target(target, value)

        kinds: dict[str, Any] = {contract.timestamp: _time_type()}
        kinds |= {name: _feature_type(feature) for name, feature in contract.features.items()}
        kinds[target.column] = Annotated[
            _target_type(target),
            BeforeValidator(checked_target),
            WithJsonSchema(target_schema(target)),
        ]
        required = [
            name
            for name in contract.columns
            if name == target.column or not contract.features[name].is_optional
        ]
        self.new = _model("NewObservation", kinds, required=tuple(required))
        self.change = _model("ObservationChange", kinds, required=())
        self.stored = _stored_model(contract)
        self._allowed = {contract.timestamp: _TIME, target.column: describe_target(target)}
        self._allowed |= {name: describe(one) for name, one in contract.features.items()}

    def read_new(self, document: Any) -> dict[str, Any]:
        """The columns of a new observation with their values.

        Raises:
            ProblemError: 422, names every field that is wrong.
        """
        return self._read(self.new, document)

    def read_change(self, document: Any) -> dict[str, Any]:
        """The columns to be changed with their new values.

        Raises:
            ProblemError: 422, names every field that is wrong, or nothing is to be changed.
        """
        changes = self._read(self.change, document)
        if not changes:
            names = ", ".join(self._allowed)
            raise unprocessable([FieldError("", "changes nothing", "{}", f"some of {names}")])
        return changes

    def _read(self, model: type[BaseModel], document: Any) -> dict[str, Any]:
        names = ", ".join(self._allowed)
        if not isinstance(document, dict):
            allowed = f"an object with {names}"
            raise unprocessable([FieldError("", "is no object", shown(document), allowed)])
        twice = [name for name, value in document.items() if isinstance(value, DuplicateKey)]
        if twice:
            message = "is given more than once"
            raise unprocessable(
                [
                    FieldError(
                        name, message, shown_value(document[name]), self._allowed.get(name, names)
                    )
                    for name in twice
                ]
            )
        try:
            read = model.model_validate(document)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            raise unprocessable([self._explain(one, names) for one in problems]) from None
        return read.model_dump(by_alias=True, exclude_unset=True)

    def _explain(self, problem: Mapping[str, Any], names: str) -> FieldError:
        # A name that is no Unicode has no place.
        name = str(problem["loc"][0]) if problem["loc"] else ""
        kind = problem["type"]
        if kind == "value_error":
            message = str(problem["msg"]).removeprefix("Value error, ")
        elif kind == "int_type" and isinstance(problem["input"], float):
            message = "is no whole number"
        else:
            message = _MESSAGES.get(kind, "is no number")
        given = None if kind == "missing" else shown(problem["input"])
        return FieldError(name, message, given, self._allowed.get(name, names))


def observation_schemas(contract: Contract | None) -> dict[str, Any]:
    """The components of the OpenAPI document; any object where no release is in service."""
    names = ("NewObservation", "ObservationChange", "Observation")
    if contract is None:
        return {name: {"type": "object"} for name in names}
    models = ObservationModels(contract)
    schemas = {
        name: model.model_json_schema(by_alias=True)
        for name, model in zip(names, (models.new, models.change, models.stored), strict=True)
    }
    schemas["ObservationChange"]["minProperties"] = 1
    return schemas


def _model(title: str, kinds: Mapping[str, Any], required: tuple[str, ...]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        f"field_{index}": (
            kind,
            Field(alias=name) if name in required else Field(default=None, alias=name),
        )
        for index, (name, kind) in enumerate(kinds.items())
    }
    configuration = ConfigDict(
        title=title, extra="forbid", strict=True, json_schema_extra=_without_null_defaults
    )
    return create_model(title, __config__=configuration, **fields)


def _without_null_defaults(schema: dict[str, Any]) -> None:
    """What may be left out is not null when it is left out."""
    for one in schema["properties"].values():
        one.pop("default", None)
        one.pop("title", None)


def _stored_model(contract: Contract) -> type[BaseModel]:
    kinds: dict[str, Any] = {contract.key: int, contract.timestamp: datetime | None}
    kinds |= {name: _stored_type(feature) for name, feature in contract.features.items()}
    kinds[contract.target.column] = _target_type(contract.target) | None
    return _model("Observation", kinds, required=tuple(kinds))


def _target_type(target: Target) -> Any:
    if target.has_text_classes:
        return str
    return int if target.classes else float


def _stored_type(feature: Feature) -> Any:
    kinds: dict[str, Any] = {
        "integer": int,
        "boolean": bool,
        "category": int if feature.has_integer_categories else str,
        "date": date,
        "timestamp": datetime,
    }
    return kinds.get(feature.type, float) | None


def _feature_type(feature: Feature) -> Any:
    if not feature.is_number:
        return _checked_type(feature)
    kind = _number_type(feature)
    return kind | None if feature.is_optional else kind


def _checked_type(feature: Feature) -> Any:
    """A type whose values are checked as those of a prediction are."""

    def check(value: Any) -> Any:
        reason = None if value is None and feature.is_optional else fault_of(value, feature)
        if reason is not None:
            raise ValueError(reason)
        if value is None or not feature.is_time:
            return plain(value, feature)
        return read_time(value).date() if feature.type == "date" else read_time(value)

    return Annotated[Any, BeforeValidator(check), WithJsonSchema(feature_schema(feature))]


def _number_type(feature: Feature) -> Any:
    described = ", ".join(
        filter(None, (feature.description, f"in {feature.unit}" if feature.unit else None))
    )
    if feature.type == "integer":
        limits = Field(
            ge=_within_bigint(feature.minimum, -_LARGEST_BIGINT),
            le=_within_bigint(feature.maximum, _LARGEST_BIGINT),
            description=described or None,
        )
        return Annotated[int, limits, BeforeValidator(_whole)]
    return Annotated[
        float,
        Field(
            ge=feature.minimum,
            le=feature.maximum,
            allow_inf_nan=False,
            description=described or None,
        ),
        BeforeValidator(_finite),
    ]


def _within_bigint(limit: float | None, otherwise: int) -> int | float:
    return otherwise if limit is None or abs(limit) > _LARGEST_BIGINT else limit


def _time_type() -> Any:
    return Annotated[datetime, BeforeValidator(_read_time), Field(description=_TIME)]


def _read_time(value: Any) -> datetime:
    """The time in UTC and without an offset, which is how the table holds it."""
    if not isinstance(value, str):
        raise ValueError("is no text")  # noqa: TRY004  (Pydantic takes no TypeError)
    try:
        read = datetime.fromisoformat(value)
        return read.astimezone(UTC).replace(tzinfo=None) if read.tzinfo else read
    except (ValueError, OverflowError):
        raise ValueError("is no time") from None


def _whole(value: Any) -> Any:
    """A whole number that is written as 3.0 counts as 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _finite(value: Any) -> Any:
    """Python's integers may be too large for a float."""
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError("is not finite") from None
    return value
