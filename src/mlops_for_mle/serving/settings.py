"""The settings of the server: environment variables with the prefix ``MLOPS_``, or options."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_for_mle.configuration import explain_errors
from mlops_for_mle.errors import ConfigurationError

PREFIX = "MLOPS_"

LogLevel = Literal["critical", "error", "warning", "info", "debug"]


def _source_tree() -> Path:
    return Path(__file__).resolve().parents[3]


class ServingSettings(BaseSettings):
    """What a person may set; every field is the variable ``MLOPS_<FIELD>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    project_path: Path = Field(
        default_factory=_source_tree,
        description="The project's folder; the defaults of the folders below are under it.",
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="The address to listen on. The default answers only to this machine.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="The TCP port to listen on; 0 takes a free one, which is then logged.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="How many processes answer; each loads and follows the releases by itself.",
    )
    model: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_]{0,47}$",
        description="The contract whose deployments are served; unset: the only one that has any.",
    )
    release_store: str = Field(
        default="",
        description="Where releases are: a folder or an fsspec URL. Default: data/releases.",
    )
    cache: Path = Field(
        default=Path(),
        description="The folder that keeps the served release for a start without database and "
        "store. Default: data/serving_cache.",
    )
    poll_seconds: float = Field(
        default=1.0,
        ge=0.05,
        le=3600,
        description="How often the deployments table is looked at, in seconds.",
    )
    retry_seconds: float = Field(
        default=30.0,
        ge=0.05,
        le=3600,
        description="The longest wait before an unavailable database or a release that failed to "
        "load is tried again, in seconds; the first waits are shorter.",
    )
    shutdown_seconds: int = Field(
        default=10,
        ge=1,
        le=3600,
        description="How long requests that are being answered may take after SIGTERM, in seconds.",
    )
    max_body_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        description="The largest request body that is read, in bytes; a larger one is answered "
        "with 413.",
    )
    log_level: LogLevel = Field(
        default="info", description="The least severe messages that are logged."
    )

    @model_validator(mode="before")
    @classmethod
    def _folders_of_the_project(cls, given: Any) -> Any:
        project = Path(given.get("project_path") or _source_tree())
        folders = {
            "release_store": str(project / "data" / "releases"),
            "cache": project / "data" / "serving_cache",
        }
        return {**folders, **given}

    @classmethod
    def load(cls, options: Mapping[str, Any] | None = None) -> Self:
        """Read the settings: options first, then the environment, then the defaults.

        Raises:
            ConfigurationError: One line a wrong value: its name, what was found, what is allowed.
        """
        given = {name: value for name, value in (options or {}).items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            lines = [_as_written(line, given) for line in explain_errors(error, "", cls)]
            raise ConfigurationError("\n".join(lines)) from None

    def export(self) -> None:
        """Put the settings into the environment, so that worker processes read the same ones."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                os.environ[PREFIX + name.upper()] = str(value)


def _as_written(line: str, options: Mapping[str, Any]) -> str:
    """Name the setting as the person wrote it: as an option or as a variable."""
    name, _, rest = line.partition(":")
    shown = f"--{name.replace('_', '-')}" if name in options else PREFIX + name.upper()
    return f"{shown}:{rest}"
