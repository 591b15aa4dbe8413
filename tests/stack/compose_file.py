"""Reads the stack's files as Docker Compose does, for tests that need no Docker."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from tests import PROJECT
from tests.expectations import run

COMPOSE = PROJECT / "docker-compose.yaml"
TUTORIAL = PROJECT / "docker-compose.tutorial.yaml"
REPLICAS = PROJECT / "docker-compose.replicas.yaml"
EXAMPLE = PROJECT / ".env.example"
TUTORIAL_ENVIRONMENT = PROJECT / "deploy" / "tutorial.env"

# By this tag an override takes something away.
yaml.SafeLoader.add_constructor("!reset", lambda *_: [])


def environment_file(path: Path) -> dict[str, str]:
    """The settings of an .env file."""
    return {name: value or "" for name, value in dotenv_values(path).items()}


# What `make up` fills with random values, such as these.
_HEAD = EXAMPLE.read_text("utf-8").partition("\n\n")[0]
SECRETS = [one for one in re.findall(r"^(\w+)=$", _HEAD, re.M) if one != "COMPOSE_PROJECT_NAME"]
STRONG = {name: f"k{number}-3f9c2a7d51e84b60a1" for number, name in enumerate(SECRETS)}
SETTINGS = (
    environment_file(EXAMPLE)
    | STRONG
    | {"COMPOSE_PROJECT_NAME": "mlops-1", "MLOPS_DATABASE_USER": "Owner-1"}
)


def services(values: Mapping[str, str], path: Path = COMPOSE) -> dict[str, Any]:
    """The services of a file with all variables replaced, by a shell: its forms are Compose's.

    Raises:
        ValueError: A variable has no value and needs one.
    """
    text = json.dumps(yaml.safe_load(path.read_text("utf-8"))["services"])
    for special, plain in (("\\", "\\\\"), ("`", "\\`"), ("$$", "\\$")):
        text = text.replace(special, plain)
    finished = run("/bin/sh", input=f"cat <<END\n{text}\nEND\n", env={**values})
    if finished.returncode:
        raise ValueError(finished.stderr)
    return dict(json.loads(finished.stdout))
