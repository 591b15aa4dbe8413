"""Writes values as one-line YAML that Kedro's OmegaConf reads back unchanged."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

# Letters of any script with digits, spaces and underscores between them need no quotes…
_PLAIN = re.compile(r"[^\W\d_](?:[\w -]*\w)?")
# …unless YAML or OmegaConf takes them for something else.
_TAKEN = re.compile(r"(?:y|n|yes|no|on|off|true|false|null|none|nan|inf|infinity)", re.IGNORECASE)
_INTERPOLATION = re.compile(r"(\\*)\$\{")


def yaml_value(value: Any) -> str:
    """Write a value in YAML's flow style.

    Args:
        value: Text, a number, a boolean, None, a list or a mapping of these.
    """
    if isinstance(value, Mapping):
        pairs = (f"{yaml_key(str(key))}: {yaml_value(one)}" for key, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(yaml_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    return _text(_escaped(str(value)))


def yaml_key(name: str) -> str:
    """Write a key of a mapping; keys are not interpolated, so nothing is escaped in them."""
    return _text(name)


def comment(text: str) -> str:
    """Text that can stand behind a ``#``: without line breaks or control characters."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _escaped(text: str) -> str:
    """Text in which OmegaConf finds nothing to interpolate."""
    return _INTERPOLATION.sub(lambda found: found[1] * 2 + r"\${", text)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and not _TAKEN.fullmatch(text):
        return text
    quoted = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**9)
    return quoted.rstrip("\n")
