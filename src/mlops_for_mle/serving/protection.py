"""What stands in front of all routes."""

from functools import partial

from mlops_for_mle.serving import tracing
from mlops_for_mle.serving.access import AccessControl, KeyRing
from mlops_for_mle.serving.asgi import Middleware
from mlops_for_mle.serving.exposure import is_loopback
from mlops_for_mle.serving.keys import KeyFile
from mlops_for_mle.serving.recording import ServingMetrics
from mlops_for_mle.serving.request_context import RequestContext
from mlops_for_mle.serving.settings import ServingSettings

_REQUEST_HEADERS = ("Authorization", "Content-Type", "If-Match", "Idempotency-Key", "X-API-Key")
_ANSWER_HEADERS = ("ETag", "Location", "Retry-After", "X-Request-ID")


def protective_middleware(settings: ServingSettings, metrics: ServingMetrics) -> list[Middleware]:
    """The middleware of a server, the outermost first.

    Raises:
        ConfigurationError: The file of API keys is not valid.
    """
    keys = KeyRing(
        KeyFile(settings.api_keys_file),
        is_public=not (settings.keyless_names or is_loopback(settings.host)),
    )
    found: list[Middleware] = [partial(RequestContext, access_log=settings.access_log)]
    if tracing.is_wanted() and (provider := tracing.make_provider()) is not None:
        found.append(partial(tracing.Tracing, provider=provider))
    if settings.allowed_origins:
        from starlette.middleware.cors import CORSMiddleware

        # In front of the keys, since a browser asks for permission without one.
        found.append(
            partial(
                CORSMiddleware,
                allow_origins=settings.allowed_origins,
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=[*_REQUEST_HEADERS, "X-Request-ID"],
                expose_headers=list(_ANSWER_HEADERS),
            )
        )
    found.append(partial(AccessControl, keys=keys, metrics=metrics, names=settings.keyless_names))
    return found
