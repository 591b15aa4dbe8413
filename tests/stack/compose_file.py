"""Reads the stack's files as Docker Compose does, for tests that need no Docker."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
COMPOSE = PROJECT / "docker-compose.yaml"
TUTORIAL = PROJECT / "docker-compose.tutorial.yaml"
REPLICAS = PROJECT / "docker-compose.replicas.yaml"
EXAMPLE = PROJECT / ".env.example"
TUTORIAL_ENVIRONMENT = PROJECT / "deploy" / "tutorial.env"

# $$ is a dollar sign; ${NAME}, ${NAME:-default} and ${NAME:?message} are what these files use; a
# default may be a variable.
VARIABLE = re.compile(
    r"\$\$|\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>(?:[^{}$]|\$\{[^{}]*\})*))?\}"
)
# What `make up` itself gives beside .env.
GIVEN = {"API_KEY_SHA256", "METRICS_KEY_SHA256"}


def variables_of(path: Path) -> dict[str, str | None]:
    """The variables that a file uses, with their defaults."""
    text = path.read_text("utf-8")
    defaults = dict(re.findall(r"\$\{(\w+):-([^${}]+)\}", text))
    return {name: defaults.get(name) for name in re.findall(r"\$\{(\w+)", text)}


def environment_file(path: Path) -> dict[str, str]:
    """The settings of an .env file."""
    lines = path.read_text("utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


# What `make up` fills with random values, such as these.
_HEAD = EXAMPLE.read_text("utf-8").partition("\n\n")[0]
SECRETS = [one for one in re.findall(r"^(\w+)=$", _HEAD, re.M) if one != "COMPOSE_PROJECT_NAME"]
STRONG = {name: f"k{number}-3f9c2a7d51e84b60a1" for number, name in enumerate(SECRETS)}
SETTINGS = environment_file(EXAMPLE) | STRONG | {"COMPOSE_PROJECT_NAME": "mlops-1"}


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """Put values in place of variables, as Compose does."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        found = values.get(match["name"], "")
        if not found and match["kind"] == "?":
            raise ValueError(f"{match['name']}: {match['rest']}")
        return found or (interpolate(match["rest"], values) if match["kind"] == "-" else "")

    return VARIABLE.sub(replace, text)


def services(values: Mapping[str, str], path: Path = COMPOSE) -> dict[str, Any]:
    """The services of a file with all variables replaced."""
    found = yaml.load(path.read_text("utf-8"), _Loader)["services"]
    return dict(_interpolate_within(found, values))


class _Loader(yaml.SafeLoader):
    """Knows the tag by which an override takes something away."""


_Loader.add_constructor("!reset", lambda loader, node: loader.construct_sequence(node))


def _interpolate_within(part: Any, values: Mapping[str, str]) -> Any:
    """Replace variables after the YAML was read, so that an empty value stays a text."""
    if isinstance(part, str):
        return interpolate(part, values)
    if isinstance(part, dict):
        return {key: _interpolate_within(value, values) for key, value in part.items()}
    if isinstance(part, list):
        return [_interpolate_within(value, values) for value in part]
    return part
