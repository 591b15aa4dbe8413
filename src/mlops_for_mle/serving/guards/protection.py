"""What stands in front of all routes."""

from starlette.types import ASGIApp

from mlops_for_mle.serving.guards import tracing
from mlops_for_mle.serving.guards.access import AccessControl, KeyRing
from mlops_for_mle.serving.guards.exposure import is_loopback
from mlops_for_mle.serving.guards.request_context import RequestContext
from mlops_for_mle.serving.http.hot_routes import HotRoutes
from mlops_for_mle.serving.http.immediate import Application, ImmediateAnswers
from mlops_for_mle.serving.keys import KeyFile
from mlops_for_mle.serving.recording import ServingMetrics
from mlops_for_mle.serving.settings import ServingSettings

_REQUEST_HEADERS = ("Authorization", "Content-Type", "If-Match", "Idempotency-Key", "X-API-Key")
_ANSWER_HEADERS = ("ETag", "Location", "Retry-After", "X-Request-ID")


class Protection:
    """API keys, request ids and protective headers; on demand traces and other origins."""

    def __init__(self, settings: ServingSettings, metrics: ServingMetrics) -> None:
        """Read the API keys.

        Raises:
            ConfigurationError: The file of API keys is not valid.
        """
        self._settings = settings
        self._metrics = metrics
        self._keys = KeyRing(
            KeyFile(settings.api_keys_file),
            is_public=not (settings.keyless_names or is_loopback(settings.host)),
        )

    def around(self, routes: HotRoutes) -> Application:
        """The routes behind everything that protects them."""
        settings = self._settings
        access = AccessControl(routes, self._keys, self._metrics, settings.keyless_names)
        guarded: ASGIApp = access
        if settings.allowed_origins:
            from starlette.middleware.cors import CORSMiddleware

            # In front of the keys, since a browser asks for permission without one.
            guarded = CORSMiddleware(
                guarded,
                allow_origins=settings.allowed_origins,
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=[*_REQUEST_HEADERS, "X-Request-ID"],
                expose_headers=list(_ANSWER_HEADERS),
            )
        if tracing.is_wanted() and (provider := tracing.make_provider()) is not None:
            guarded = tracing.Tracing(guarded, provider=provider)
        context = RequestContext(guarded, settings.access_log)
        # What looks at each request's messages, or logs each, needs the ordinary way.
        is_plain = guarded is access and settings.access_log != "all"
        return Application(context, ImmediateAnswers(routes, access, context) if is_plain else None)
