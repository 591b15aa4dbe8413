"""Who may do what: API keys and their scopes, checked before any route."""

import hmac
import logging
import os
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.serving.guards.exposure import is_loopback_name
from mlops_for_mle.serving.http.asgi import HotAnswer, problem_answer, send_answer
from mlops_for_mle.serving.http.problems import ProblemError
from mlops_for_mle.serving.keys import ApiKey, KeyFile, digest
from mlops_for_mle.serving.keys import Scope as KeyScope
from mlops_for_mle.serving.recording import ServingMetrics

KEY_IN_STATE: Final = "api_key"
REFUSED_ROUTE: Final = "(refused)"

_RELOAD_SECONDS = 0.5
_REMEMBERED_HOSTS = 64

_OPEN_PATHS = frozenset(
    {
        "/",
        "/docs",
        "/favicon.ico",
        "/health",
        "/health/live",
        "/health/ready",
        "/openapi.json",
        "/ping",
        "/v2/health/live",
        "/v2/health/ready",
        "/version",
    }
)
_OPEN_FOLDERS = ("/docs/", "/page/")
_PREDICT_PATHS = frozenset({"/predict", "/predict/preview", "/invocations"})
_PREDICT_FOLDERS = ("/v2/models/",)
_DATA_PATHS = ("/observations", "/feedback", "/predictions")

Need = Literal["nothing", "any key"] | KeyScope

logger = logging.getLogger(__name__)


def needed(method: str, path: str) -> Need:
    """What a request must present; whatever is not listed and changes something needs admin."""
    if path in _PREDICT_PATHS or path.startswith(_PREDICT_FOLDERS):
        return "predict"
    reads = method in {"GET", "HEAD", "OPTIONS"}
    if reads and (path in _OPEN_PATHS or path.startswith(_OPEN_FOLDERS)):
        return "nothing"
    if path.startswith(_DATA_PATHS):
        return "write"
    return "any key" if reads else "admin"


class KeyRing:
    """The keys in force, by their digests; follows changes of the file.

    The dictionary is asked for the digest of what was presented, which nobody can choose so as to
    learn a digest from the time that the look-up takes.
    """

    def __init__(self, file: KeyFile, is_public: bool) -> None:
        """Read the keys.

        Raises:
            ConfigurationError: The file is there and not valid.
        """
        self._file = file
        self._is_public = is_public
        self._keys: dict[bytes, tuple[bytes, ApiKey]] = {}
        self._mark = self._look()
        self._check_at = time.monotonic() + _RELOAD_SECONDS
        self._has_file = False
        self._take(file.read())

    def is_required(self) -> bool:
        """Whether a key must be presented: always on a public address, else once there is a file.

        A file without keys, or one that has gone, refuses everybody: losing it opens nothing.
        """
        if time.monotonic() >= self._check_at:
            self._reload()
        return self._is_public or self._has_file

    def find(self, presented: bytes) -> ApiKey | None:
        """The key with these characters."""
        found = digest(presented)
        known = self._keys.get(found)
        return known[1] if known is not None and hmac.compare_digest(found, known[0]) else None

    def _reload(self) -> None:
        self._check_at = time.monotonic() + _RELOAD_SECONDS
        mark = self._look()
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._take(self._file.read())
        except ConfigurationError as error:
            logger.error("%s; the keys that were read before stay in force", error)  # noqa: TRY400  (a person's mistake)
        else:
            logger.info("Read %d API key(s) from %s", len(self._keys), self._file.path)

    def _take(self, keys: tuple[ApiKey, ...] | None) -> None:
        digests = [(bytes.fromhex(one.sha256), one) for one in keys or ()]
        self._keys = {known[0]: known for known in digests}
        self._has_file = self._has_file or keys is not None

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._file.path)  # noqa: PTH116  (a third of the cost, twice a second)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


class AccessControl:
    """Middleware that lets a request through when its key allows what it asks for.

    Without keys the server answers this machine alone. Then the host that a browser was told must
    be this machine too, or any page in it could reach the API under a name of its own.
    """

    def __init__(
        self,
        application: ASGIApp,
        keys: KeyRing,
        metrics: ServingMetrics,
        names: frozenset[str] = frozenset(),
    ) -> None:
        """Guard an application; ``names`` are answered without a key like this machine's own."""
        self._names = names
        self._application = application
        self._keys = keys
        self._metrics = metrics
        self._local_hosts: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401, 403 or 421."""
        if scope["type"] == "http":
            try:
                key = self.check(needed(scope["method"], scope["path"]), scope["headers"])
            except ProblemError as problem:
                await send_answer(send, self.refusal(problem))
                return
            if key is not None:
                scope.setdefault("state", {})[KEY_IN_STATE] = key
        await self._application(scope, receive, send)

    def check(self, need: Need, headers: Iterable[tuple[bytes, bytes]]) -> ApiKey | None:
        """Find out whether a request is let through.

        Args:
            need: What it must present, as ``needed`` says.
            headers: Its headers, their names in lower case.

        Returns:
            The key that it has presented, where it needs one.

        Raises:
            ProblemError: 401, 403 or 421, it is not.
        """
        host = presented = None
        for name, value in headers:
            if name == b"authorization":
                if value[:7].lower() == b"bearer ":
                    presented = value[7:].strip()
            elif name == b"x-api-key":
                presented = value
            elif name == b"host":
                host = value
        if not self._keys.is_required():
            self._check_host(host)
            if need != "admin":
                return None
        if need == "nothing":
            return None
        if presented is None:
            raise _unauthorized(_explain(need))
        key = self._keys.find(presented)
        if key is None:
            raise _unauthorized("The API key is not known, or was revoked")
        if need != "any key" and not key.allows(need):
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"The API key {key.name} has the scope {', '.join(key.scopes)}; "
                f"this needs the scope {need}",
            )
        return key

    def refusal(self, problem: ProblemError) -> HotAnswer:
        """The answer to a request that is not let through; counts it."""
        self._metrics.requested(REFUSED_ROUTE, problem.status, 0.0)
        return problem_answer(problem)

    def _check_host(self, host: bytes | None) -> None:
        if host is None or host in self._local_hosts:
            return
        name = host.decode("latin-1")
        bare = _without_port(name)
        if not is_loopback_name(bare) and bare.lower() not in self._names:
            raise ProblemError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"Without API keys only this machine is answered, under the name localhost; "
                f"this request names {name[:80]!r}. Create a key to answer others.",
            )
        if len(self._local_hosts) < _REMEMBERED_HOSTS:
            self._local_hosts.add(host)


def describe_security(document: dict[str, Any]) -> None:
    """Say in an OpenAPI document which operation needs which key, and how it is refused."""
    components = document.setdefault("components", {})
    components.setdefault("securitySchemes", {})["ApiKey"] = {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, where the server has any. The header X-API-Key does as well.",
    }
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            need = needed(method.upper(), path)
            operation["security"] = [] if need == "nothing" else [{"ApiKey": []}]
            if need not in {"admin", "nothing"}:
                operation["security"].append({})
            responses = operation["responses"]
            responses.setdefault(
                "421", {"description": "Not a name of this machine", "content": problem}
            )
            if need != "nothing":
                responses.setdefault("401", {"description": _explain(need), "content": problem})
            if need not in {"nothing", "any key"}:
                responses.setdefault(
                    "403", {"description": f"The key lacks the scope {need}", "content": problem}
                )


def _explain(need: Need) -> str:
    wanted = "an API key" if need == "any key" else f"an API key with the scope {need}"
    return f"This needs {wanted}, as Authorization: Bearer KEY or X-API-Key: KEY"


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
