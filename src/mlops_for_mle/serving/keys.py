"""Who may do what: API keys with scopes, this machine without any, and no page of another site.

Keys are made by ``python -m mlops_for_mle.serving.keys create NAME --scope predict``. A key is 256
random bits, so its plain SHA-256 digest tells nothing about it; only the digest is kept, in a file
that its owner alone can read.

Without keys the server answers this machine alone. Then the host that a browser was told must be
this machine too, or any page in it could reach the API under a name of its own.
"""

import fcntl
import ipaddress
import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import click
from pydantic import ConfigDict, Field, ValidationError

from mlops_for_mle.contract import Configuration
from mlops_for_mle.errors import ConfigurationError, UserError, error_message
from mlops_for_mle.releases.manifest import sha256_of
from mlops_for_mle.serving.errors import ProblemError
from mlops_for_mle.serving.settings import ServingSettings

Headers = Mapping[bytes, bytes]
"""By names in lower case."""
Scope = Literal["read", "predict", "write", "admin"]
RequiredScope = Literal["nothing", "any key"] | Scope

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PROBES = frozenset(
    {"/health", "/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/health/ready"}
)

_RELOAD_SECONDS = 0.5
_PUBLIC_PATHS = PROBES | {"/", "/docs", "/favicon.ico", "/openapi.json", "/version"}
_PUBLIC_FOLDERS = ("/docs/", "/page/")
_PREDICT_PATHS = frozenset({"/predict", "/explain", "/invocations"})
_DATA_PATHS = ("/observations", "/feedback", "/predictions")

logger = logging.getLogger(__name__)


class ApiKey(Configuration):
    """What is kept of a key; its name stands in the audit trail."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,47}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: datetime


class _Document(Configuration):
    # What stands in the file may be a key.
    model_config = ConfigDict(hide_input_in_errors=True)

    format: Literal[1] = 1
    keys: tuple[ApiKey, ...] = ()


class KeyFile:
    """The file of API keys; every change replaces it as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[ApiKey, ...] | None:
        """The keys, None where there is no file; ConfigurationError where it is not valid."""
        try:
            return _Document.model_validate_json(self.path.read_bytes()).keys
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise ConfigurationError(f"The API keys in {self.path}: {error}") from None

    def create(self, name: str, scopes: Sequence[Scope]) -> str:
        """Add a key and return it, which is the only time that it can be shown.

        UserError where the name is taken, ValidationError where it is not allowed.
        """
        key = "mlops_" + secrets.token_urlsafe(32)
        now = datetime.now(UTC).replace(microsecond=0)
        sha256 = sha256_of(key.encode())
        entry = ApiKey(name=name, scopes=tuple(scopes), sha256=sha256, created_at=now)
        with self._changing() as keys:
            if name in keys:
                raise UserError(f"There is a key named {name} already: revoke it, or take another.")
            keys[name] = entry
        return key

    def revoke(self, name: str) -> None:
        """Remove a key, which servers refuse within a second; UserError where there is none."""
        with self._changing() as keys:
            if keys.pop(name, None) is None:
                names = ", ".join(keys) or "none"
                raise UserError(f"There is no key named {name!r}; there are: {names}.")

    @contextmanager
    def _changing(self) -> Iterator[dict[str, ApiKey]]:
        """The keys by name, written again afterwards; two changes never lose one of them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = {key.name: key for key in self.read() or ()}
            yield keys
            partial = self.path.with_name(f".{self.path.name}.new")
            partial.touch(0o600)
            partial.write_text(_Document(keys=tuple(keys.values())).model_dump_json(indent=2))
            partial.replace(self.path)
        finally:
            os.close(lock)


def required_scope(method: str, path: str) -> RequiredScope:
    """The key that a request needs: admin for all that changes something and is not listed."""
    if path in _PREDICT_PATHS or path.startswith("/v2/models/"):
        return "predict"
    if method in SAFE_METHODS and (path in _PUBLIC_PATHS or path.startswith(_PUBLIC_FOLDERS)):
        return "nothing"
    if path.startswith(_DATA_PATHS):
        return "write"
    return "any key" if method in SAFE_METHODS else "admin"


class Access:
    """Lets a request through when its key allows what it asks for; follows the file of keys.

    The keys are looked up by the digest of what was presented, which nobody can choose so as to
    learn a digest from the time that the look-up takes.
    """

    def __init__(self, settings: ServingSettings) -> None:
        """Read the keys; ConfigurationError where they cannot be read, or are missing."""
        self._file = KeyFile(settings.api_keys_file)
        self._names = frozenset(settings.keyless_hosts.lower().replace(",", " ").split())
        is_public = not (self._names or _is_loopback(settings.host))
        # A file without keys, or one that has gone, refuses everybody: losing it opens nothing.
        self._needs_keys = is_public
        self._keys: dict[str, ApiKey] = {}
        self._read_at, self._fault = 0.0, ""
        self._read()
        if is_public and not self._keys:
            raise ConfigurationError(
                f"MLOPS_HOST: {settings.host} can be reached by others, and there is no API key in "
                f"{settings.api_keys_file}. Create one with `python -m mlops_for_mle.serving.keys "
                "create NAME --scope predict`, or listen on 127.0.0.1."
            )

    def check(self, need: RequiredScope, headers: Headers) -> str | None:
        """Who sends a request that needs ``need``; ProblemError 401, 403 or 421 if they may not.

        The name of a key, or this machine; None is a stranger, who is told nothing of people and
        paths.
        """
        if time.monotonic() > self._read_at + _RELOAD_SECONDS:
            try:
                self._read()
            except ConfigurationError as error:
                if str(error) != self._fault:
                    logger.error("%s; the keys that were read before stay in force", error)  # noqa: TRY400  (a person's mistake)
                self._fault = str(error)
        if not self._needs_keys:
            host = headers.get(b"host", b"localhost")
            name = _without_port(host)
            if not _is_loopback(name) and name not in self._names:
                named = host.decode("latin-1")[:80]
                detail = (
                    f"Without API keys this server is known as localhost alone, not as {named!r}"
                )
                raise ProblemError(421, detail)
            if need != "admin":
                return "this machine"
        presented = headers.get(b"x-api-key", b"")
        bearer = headers.get(b"authorization", b"")
        if bearer[:7].lower() == b"bearer ":
            presented = bearer[7:].strip()
        key = self._keys.get(sha256_of(presented))
        if need == "nothing":
            return None if key is None else key.name
        if key is None:
            detail = "This needs a valid API key, as Authorization: Bearer KEY or X-API-Key: KEY"
            raise ProblemError(401, detail, headers={"WWW-Authenticate": "Bearer"})
        if need != "any key" and need not in key.scopes and "admin" not in key.scopes:
            raise ProblemError(403, f"This needs the scope {need}; the API key {key.name} lacks it")
        return key.name

    def _read(self) -> None:
        self._read_at = time.monotonic()
        keys = self._file.read()
        self._keys, self._fault = {key.sha256: key for key in keys or ()}, ""
        self._needs_keys |= keys is not None


def check_origin(headers: Headers) -> None:
    """Refuse what a page of another site sends: browsers send some of it without asking."""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin", b"")
    is_ours = site in {b"same-origin", b"none"}
    if site is None:
        host = headers.get(b"host", b"").lower()
        is_ours = not origin or origin.lower().partition(b"://")[2] == host
    if not is_ours:
        raise ProblemError(403, "A page of another site cannot change anything here")


@lru_cache(maxsize=64)
def _is_loopback(name: str) -> bool:
    """Whether a name or an address always means this machine; asks no name server."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=64)
def _without_port(host: bytes) -> str:
    """The name of a Host header, in lower case."""
    name = host.decode("latin-1").lower()
    return f"{name.partition(']')[0]}]" if name.startswith("[") else name.partition(":")[0]


@click.group(name="python -m mlops_for_mle.serving.keys")
def commands() -> None:
    """Manage the server's API keys, in the file MLOPS_API_KEYS_FILE."""


@commands.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(get_args(Scope)),
    multiple=True,
    required=True,
    help="read: what every key may read, such as /metrics; predict: predictions; write: "
    "observations, feedback and logged predictions; admin: everything, rollback included; may be "
    "repeated",
)
def create(name: str, scopes: Sequence[Scope]) -> None:
    """Make a key for somebody, such as web-shop or kim, and print it, once."""
    file = KeyFile(ServingSettings().api_keys_file)
    click.echo(file.create(name, scopes))
    click.echo(f"Kept as a digest in {file.path}; the key is not shown again.", err=True)


@commands.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Take a key away."""
    KeyFile(ServingSettings().api_keys_file).revoke(name)
    click.echo(f"Revoked {name}.")


if __name__ == "__main__":
    try:
        commands()
    except (UserError, ValidationError, OSError) as error:
        sys.exit(error_message(error))
