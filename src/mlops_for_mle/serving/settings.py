"""The settings of the server: environment variables with the prefix ``MLOPS_``, or options."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_for_mle.paths import project_path

PREFIX = "MLOPS_"


def _in_project(path: str) -> Any:
    return Field(default_factory=lambda: str(project_path() / path))


class ServingSettings(BaseSettings):
    """The prediction API's settings; each is also a variable, such as MLOPS_PORT for --port.

    An option comes before a variable, and this before the default.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_prog_name="python -m mlops_for_mle.serving",
        cli_kebab_case=True,
        cli_hide_none_type=True,
    )

    host: str = Field("127.0.0.1", min_length=1)
    """The address to listen on. The default answers only to this machine."""
    port: int = Field(8000, ge=0, le=65535)
    """The TCP port to listen on; 0 takes a free one, which is then logged."""
    workers: int = Field(1, ge=1, le=256)
    """How many processes answer; each loads and follows the releases by itself."""
    model: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]{0,47}$")
    """The contract whose deployments are served; unset: the only one that has any."""
    release_store: str = _in_project("data/releases")
    """Where releases are: a folder or an fsspec URL. Default: data/releases."""
    poll_seconds: float = Field(1.0, ge=0.05, le=3600)
    """How often the deployments table is looked at, in seconds; after ten times as long a release
    that failed to load is tried again."""
    shutdown_seconds: int = Field(10, ge=1, le=3600)
    """How long the end may take after SIGTERM, in seconds: half of it for requests that are
    being answered, the rest for writing out the prediction log."""
    max_concurrency: int = Field(128, ge=1)
    """How many requests one process works on at once; one more is answered with 429."""
    request_timeout_seconds: float = Field(30.0, gt=0, le=3600)
    """How long one request may take, in seconds; a longer one is answered with 504, and with
    408 when its body has not arrived by then."""
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024)
    """The largest request body that is read, in bytes; a larger one is answered with 413."""
    spool: Path = _in_project("data/serving_spool")
    """The folder that keeps answered predictions until the database has them; on a local disk,
    shared by all workers. The end of a process loses nothing of it, a power failure up to a second.
    Default: data/serving_spool."""
    spool_max_bytes: int = Field(1024**3, ge=65536)
    """The most that the spool folder may hold, in bytes; one row of four features takes about
    200. A prediction that cannot be kept is answered with 503."""
    ship_seconds: float = Field(0.5, ge=0.05, le=3600)
    """How often spooled predictions are written to the database, in seconds."""
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    """The least severe messages that are logged, as text for a terminal and else as JSON. An answer
    from 500 on is a warning, any other is logged at debug, which costs about as much as a
    prediction."""
    api_keys_file: Path = _in_project("conf/local/api_keys.json")
    """The file of API keys, see `python -m mlops_for_mle.serving.keys`. Default:
    conf/local/api_keys.json."""
    keyless_hosts: str = Field("", pattern=r"^[A-Za-z0-9.-]*(\s*,\s*[A-Za-z0-9.-]+)*$")
    """Names, with commas between them, under which the server answers without an API key on any
    address, such as localhost,api. Only for a port that nobody but this machine reaches, like a
    container's that is published on 127.0.0.1. Operations that need the scope admin keep
    needing a key. Unset: none."""
