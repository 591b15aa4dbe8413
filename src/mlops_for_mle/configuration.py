"""Turns raw configuration into frozen, typed objects with errors that name the key."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mlops_for_mle.contract import Configuration
from mlops_for_mle.errors import ConfigurationError

# Finds train and ingest for training and ingestion, and leaves tracking alone.
_NEARLY = 0.76


ConfigurationType = TypeVar("ConfigurationType", bound=Configuration)


def parse_configuration(
    kind: type[ConfigurationType], raw: Mapping[str, Any] | None, prefix: str
) -> ConfigurationType:
    """Validate a block of configuration.

    Args:
        kind: The class that describes the block.
        raw: The block as read from YAML or JSON.
        prefix: Where the block stands, for example ``contract``.

    Raises:
        ConfigurationError: One line for each wrong key: the key, what was found, what is allowed.
    """
    try:
        return kind.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        raise ConfigurationError("\n".join(explain_errors(error, prefix, kind))) from None


def refuse_misspellings(names: Iterable[object], known: Collection[str], place: str) -> None:
    """Check that no name is nearly one that is known; any other may be somebody's own.

    Args:
        names: As found.
        known: Those that mean something.
        place: Where they stand, for example ``parameters``.

    Raises:
        ConfigurationError: One line for each name that is nearly a known one.
    """
    told = []
    for name in names:
        if name in known:
            continue
        plain = str(name).lower().replace("-", "_")
        meant = difflib.get_close_matches(plain, known, n=1, cutoff=_NEARLY)
        if meant:
            told.append(
                f"{name}: unknown among the {place}; did you mean {meant[0]}? "
                "One of your own needs a name less like it."
            )
    if told:
        raise ConfigurationError("\n".join(told))


def explain_errors(
    error: ValidationError, prefix: str, kind: type[BaseModel] | None = None
) -> Iterator[str]:
    """Yield one sentence for each problem that Pydantic found."""
    for problem in error.errors(include_url=False):
        named = [str(part) for part in problem["loc"] if part != "[key]"]
        parts = [part for part in named if not part.startswith("function-")]
        key = ".".join([prefix, *parts]) if prefix else ".".join(parts)
        if problem["type"] == "missing":
            yield f"{key}: is missing"
            continue
        message = problem["msg"].removeprefix("Value error, ")
        if message.startswith("Input should be a valid dictionary"):
            message = "expected names with values"
        if problem["type"] == "extra_forbidden":
            known = _known_keys(kind, [str(part) for part in problem["loc"][:-1]])
            message = "unknown key" + (f"; allowed: {', '.join(known)}" if known else "")
        found = _shorten(problem["input"])
        where = f"{key}: " if key else ""
        yield f"{where}{message[0].lower() + message[1:]} (found {found})"


def _known_keys(kind: type[BaseModel] | None, path: list[str]) -> list[str]:
    """Names the fields of the model that stands at ``path``, inside mappings and lists too."""
    is_key_of_collection = False
    for part in path:
        if is_key_of_collection:
            is_key_of_collection = False
            continue
        field = kind.model_fields.get(part) if kind is not None else None
        annotation = field.annotation if field is not None else None
        kind = _model_in(annotation)
        is_key_of_collection = get_origin(annotation) in (dict, list, tuple)
    return list(kind.model_fields) if kind is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, holds or allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _shorten(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
