"""Traces by OpenTelemetry, where the usual ``OTEL_*`` variables ask for them.

Needs the extra ``tracing``. Without those variables nothing is imported and nothing is wrapped.
"""

import logging
import os
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_for_mle import __version__
from mlops_for_mle.serving.guards.request_context import current_request

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTERS = ("otlp", "console", "none")
_FLUSH_MILLISECONDS = 2000
# These go past the framework, which would have named their route.
_HOT_PATHS = ("/predict", "/invocations", "/v2/models/")

logger = logging.getLogger(__name__)


def is_wanted() -> bool:
    """Whether the environment names a collector or an exporter and does not switch it off."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return exporter != "none"
    return any(os.environ.get(name, "").strip() for name in _ENDPOINTS)


def make_provider() -> "TracerProvider | None":
    """The provider that the environment describes; None, with a warning, where it cannot be made.

    Resource, sampler, limits and batches follow their ``OTEL_*`` variables by themselves.
    """
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if exporter not in _EXPORTERS:
        logger.warning(
            "OTEL_TRACES_EXPORTER is %r, allowed: %s; nothing is traced",
            exporter,
            ", ".join(_EXPORTERS),
        )
        return None
    os.environ.setdefault("OTEL_SERVICE_NAME", "mlops-for-mle")
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

        made: SpanExporter
        if exporter == "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            made = ConsoleSpanExporter()
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            made = OTLPSpanExporter()
    except ImportError as error:
        logger.warning(
            "Traces are asked for, but %s is not installed: install mlops-for-mle[tracing]; "
            "nothing is traced",
            error.name,
        )
        return None
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(made))
    return provider


class Tracing:
    """Middleware that makes one server span a request, a child of the caller's span if any."""

    def __init__(self, application: ASGIApp, provider: "TracerProvider") -> None:
        """Wrap an application."""
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._application = application
        self._provider = provider
        self._tracer = provider.get_tracer("mlops_for_mle.serving", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._server, self._error = SpanKind.SERVER, StatusCode.ERROR

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request inside a span."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, self._flushing(send))
            return
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in {b"traceparent", b"tracestate"}
        }
        attributes: dict[str, Any] = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": scope.get("scheme", "http"),
        }
        with self._tracer.start_as_current_span(
            scope["method"],
            context=self._propagator.extract(carrier),
            kind=self._server,
            attributes=attributes,
        ) as span:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(self._error)
                await send(message)

            await self._application(scope, receive, noting)
            route = getattr(scope.get("route"), "path_format", None)
            if route is None and scope["path"].startswith(_HOT_PATHS):
                route = scope["path"]
            if route is not None:
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
            facts = current_request.get()
            if facts is not None:
                span.set_attribute("mlops.request_id", facts.request_id)
                if facts.prediction_id is not None:
                    span.set_attribute("mlops.prediction_id", facts.prediction_id)

    def _flushing(self, send: Send) -> Send:
        """Send what is left of the traces before the server says that it has ended."""

        async def flush(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                # A collector that is away must not hold up the end.
                await run_in_threadpool(self._provider.force_flush, _FLUSH_MILLISECONDS)
            await send(message)

        return flush
