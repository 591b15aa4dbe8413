"""API keys: ``python -m mlops_for_mle.serving.keys create NAME --scope predict``.

A key is 256 random bits, so its plain SHA-256 digest tells nothing about it; only the digest is
kept, in a file that its owner alone can read.
"""

import fcntl
import hashlib
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import click
from pydantic import ConfigDict, Field, ValidationError

from mlops_for_mle.contract import Configuration
from mlops_for_mle.errors import ConfigurationError, UserError, explain

Scope = Literal["read", "predict", "write", "admin"]


class ApiKey(Configuration):
    """What is kept of a key; its name stands in the audit trail."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,47}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: datetime


class KeyDocument(Configuration):
    """The content of the file; an error shows nothing of it, since that may be a key."""

    model_config = ConfigDict(hide_input_in_errors=True)

    format: Literal[1] = 1
    keys: tuple[ApiKey, ...] = ()


class KeyFile:
    """The file of API keys; every change replaces it as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[ApiKey, ...] | None:
        """The keys, None when there is no file; raises ConfigurationError where it is not valid."""
        try:
            return KeyDocument.model_validate_json(self.path.read_bytes()).keys
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise ConfigurationError(f"The API keys in {self.path}: {error}") from None

    def create(self, name: str, scopes: Sequence[Scope]) -> str:
        """Add a key and give it; it cannot be shown again.

        Raises:
            UserError: The name is taken.
            ValidationError: The name is not allowed.
        """
        key = "mlops_" + secrets.token_urlsafe(32)
        now = datetime.now(UTC).replace(microsecond=0)
        made = ApiKey(name=name, scopes=tuple(scopes), sha256=digest(key.encode()), created_at=now)
        with self._changing() as keys:
            if name in keys:
                raise UserError(f"There is a key named {name} already: revoke it, or take another.")
            keys[name] = made
        return key

    def revoke(self, name: str) -> None:
        """Take a key away; running servers refuse it within a second; UserError, there is none."""
        with self._changing() as keys:
            if keys.pop(name, None) is None:
                known = ", ".join(keys) or "none"
                raise UserError(f"There is no key named {name!r}; there are: {known}.")

    @contextmanager
    def _changing(self) -> Iterator[dict[str, ApiKey]]:
        """The keys by name, written again afterwards; two changes never lose one of them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = {one.name: one for one in self.read() or ()}
            yield keys
            partial = self.path.with_name(f".{self.path.name}.new")
            partial.touch(0o600)
            partial.write_text(KeyDocument(keys=tuple(keys.values())).model_dump_json(indent=2))
            partial.replace(self.path)
        finally:
            os.close(lock)


def digest(key: bytes) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key).hexdigest()


@click.group(name="python -m mlops_for_mle.serving.keys")
def commands() -> None:
    """Manage the server's API keys, in the file MLOPS_API_KEYS_FILE."""


def _file() -> KeyFile:
    from mlops_for_mle.serving.settings import ServingSettings

    return KeyFile(ServingSettings.load().api_keys_file)


_SCOPES_HELP = """read: what every key may read, such as /metrics; predict: predictions; write:
observations, feedback and logged predictions; admin: everything, rollback included; may be
repeated"""
_SCOPES = click.Choice(get_args(Scope))


@commands.command()
@click.argument("name")
@click.option("--scope", "scopes", type=_SCOPES, multiple=True, required=True, help=_SCOPES_HELP)
def create(name: str, scopes: Sequence[Scope]) -> None:
    """Make a key for somebody, such as web-shop or kim, and print it, once."""
    file = _file()
    click.echo(file.create(name, scopes))
    click.echo(f"Kept as a digest in {file.path}; the key is not shown again.", err=True)


@commands.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Take a key away."""
    _file().revoke(name)
    click.echo(f"Revoked {name}.")


if __name__ == "__main__":
    try:
        commands()
    except (UserError, ValidationError, OSError) as error:
        sys.exit(explain(error))
