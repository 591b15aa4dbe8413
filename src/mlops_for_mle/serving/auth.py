"""Who may do what: API keys with scopes, this machine without any, and no page of another site.

Without keys the server answers this machine alone. Then the host that a browser was told must be
this machine too, or any page in it could reach the API under a name of its own.
"""

import ipaddress
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from typing import Literal

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.serving.errors import ProblemError
from mlops_for_mle.serving.keys import ApiKey, KeyFile, Scope, digest
from mlops_for_mle.serving.settings import ServingSettings

Headers = Mapping[bytes, bytes]
"""By names in lower case."""
Need = Literal["nothing", "any key"] | Scope

READING = frozenset({"GET", "HEAD", "OPTIONS"})

_RELOAD_SECONDS = 0.5
_OPEN_PATHS = frozenset(
    {
        *("/", "/docs", "/favicon.ico", "/openapi.json", "/version"),
        *("/health", "/health/live", "/health/ready", "/ping", "/v2/health/live"),
        "/v2/health/ready",
    }
)
_OPEN_FOLDERS = ("/docs/", "/page/")
_PREDICT_PATHS = frozenset({"/predict", "/explain", "/invocations"})
_DATA_PATHS = ("/observations", "/feedback", "/predictions")

logger = logging.getLogger(__name__)


def needed(method: str, path: str) -> Need:
    """What a request must present; whatever is not listed and changes something needs admin."""
    if path in _PREDICT_PATHS or path.startswith("/v2/models/"):
        return "predict"
    if method in READING and (path in _OPEN_PATHS or path.startswith(_OPEN_FOLDERS)):
        return "nothing"
    if path.startswith(_DATA_PATHS):
        return "write"
    return "any key" if method in READING else "admin"


class Access:
    """Lets a request through when its key allows what it asks for; follows the file of keys.

    The keys are looked up by the digest of what was presented, which nobody can choose so as to
    learn a digest from the time that the look-up takes.
    """

    def __init__(self, settings: ServingSettings) -> None:
        """Read the keys.

        Raises:
            ConfigurationError: Their file is not valid, or missing where others reach the address.
        """
        self._file = KeyFile(settings.api_keys_file)
        self._origins = settings.allowed_origins
        self._names = frozenset(settings.keyless_hosts.lower().replace(",", " ").split())
        # A file without keys, or one that has gone, refuses everybody: losing it opens nothing.
        self._needs_keys = not (self._names or is_loopback(settings.host))
        self._keys: dict[str, ApiKey] = {}
        self._look_at = 0.0
        self._mark: tuple[int, int] | None = None
        self._look()
        if self._needs_keys and self._mark is None:
            raise ConfigurationError(
                f"MLOPS_HOST: {settings.host} can be reached by others, and there is no API key in "
                f"{settings.api_keys_file}. Create one with `python -m mlops_for_mle.serving.keys "
                "create NAME --scope predict`, or listen on 127.0.0.1."
            )

    def check(self, need: Need, headers: Headers) -> str | None:
        """Who asks for something that needs ``need``; ProblemError 401, 403 or 421 otherwise.

        Returns:
            The name of a key, or that it is this machine; None for a stranger, who is told nothing
            of people and paths.
        """
        if time.monotonic() >= self._look_at:
            try:
                self._look()
            except ConfigurationError as error:
                logger.error("%s; the keys that were read before stay in force", error)  # noqa: TRY400  (a person's mistake)
        if not self._needs_keys:
            self._check_name(headers.get(b"host", b"localhost"))
            if need != "admin":
                return "this machine"
        presented = headers.get(b"x-api-key")
        bearer = headers.get(b"authorization", b"")
        if bearer[:7].lower() == b"bearer ":
            presented = bearer[7:].strip()
        key = None if presented is None else self._keys.get(digest(presented))
        if need == "nothing":
            return None if key is None else key.name
        if key is None:
            reason = "The API key is not known, or was revoked"
            if presented is None:
                reason = "This needs an API key, as Authorization: Bearer KEY or X-API-Key: KEY"
            scheme = {"WWW-Authenticate": "Bearer"}
            raise ProblemError(HTTPStatus.UNAUTHORIZED, reason, headers=scheme)
        if need != "any key" and need not in key.scopes and "admin" not in key.scopes:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"The API key {key.name} has the scope {', '.join(key.scopes)}; "
                f"this needs the scope {need}",
            )
        return key.name

    def check_site(self, headers: Headers) -> None:
        """Refuse what a page of another site sends: browsers send some of it without asking."""
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if "*" in self._origins or origin in self._origins:
            return
        site = headers.get(b"sec-fetch-site")
        is_ours = site in {b"same-origin", b"none"}
        if site is None:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            is_ours = not origin or origin.partition("://")[2] == host
        if not is_ours:
            reason = "A page of another site cannot change anything here (MLOPS_CORS_ORIGINS)"
            raise ProblemError(HTTPStatus.FORBIDDEN, reason)

    def _check_name(self, host: bytes) -> None:
        name = _without_port(host)
        if not is_loopback(name) and name not in self._names:
            raise ProblemError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "Without API keys only this machine is answered, under the name localhost; this "
                f"request names {host.decode('latin-1')[:80]!r}. Create a key to answer others.",
            )

    def _look(self) -> None:
        """Read the file again if it is another one."""
        self._look_at = time.monotonic() + _RELOAD_SECONDS
        mark = None
        with suppress(OSError):
            found = self._file.path.stat()
            mark = (found.st_mtime_ns, found.st_ino)
        if mark != self._mark:
            self._mark = mark
            keys = self._file.read()
            self._keys = {one.sha256: one for one in keys or ()}
            self._needs_keys |= keys is not None
            logger.info("Read %d API key(s) from %s", len(self._keys), self._file.path)


@lru_cache(maxsize=64)
def is_loopback(name: str) -> bool:
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
