"""Traces by OpenTelemetry, where the usual ``OTEL_*`` variables ask for them.

Needs the extra ``tracing``. Without those variables nothing is imported and nothing is wrapped.
Resource, sampler, limits and batches follow their variables by themselves.
"""

import logging
import os
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

if TYPE_CHECKING:
    from mlops_for_mle.serving.logs import RequestFacts

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

logger = logging.getLogger(__name__)


def make_provider() -> Any | None:
    """What sends spans where the environment says; None where it names no exporter.

    None, with a warning, where the exporter is not installed. To be shut down at the end, so that
    it sends what is left.
    """
    default = "otlp" if any(os.environ.get(name) for name in _ENDPOINTS) else "none"
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or default
    if exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    os.environ.setdefault("OTEL_SERVICE_NAME", "mlops-for-mle")
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    # A collector that is away must not hold up the end.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    name = "otlp_proto_http" if exporter == "otlp" else exporter
    try:
        import opentelemetry.instrumentation.asgi  # noqa: F401  (of the same extra)
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        (found,) = entry_points(group="opentelemetry_traces_exporter", name=name)
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(found.load()()))
    except (ImportError, ValueError):
        told = "Nothing is traced: the exporter %s needs `pip install mlops-for-mle[tracing]`"
        logger.warning(told, name)
        return None
    return provider


def traced(application: ASGIApp, provider: Any) -> ASGIApp:
    """The application inside of a span a request."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    def remember(span: Any, scope: dict[str, Any]) -> None:
        scope.setdefault("state", {})["span"] = span

    return OpenTelemetryMiddleware(
        application,
        tracer_provider=provider,
        server_request_hook=remember,
        exclude_spans=["receive", "send"],
    )


def describe(span: Any, method: str, route: str, facts: "RequestFacts") -> None:
    """Name a span after the route, and note what our logs call the request."""
    span.update_name(f"{method} {route}")
    span.set_attribute("http.route", route)
    span.set_attribute("mlops.request_id", facts.request_id)
    if facts.prediction_id is not None:
        span.set_attribute("mlops.prediction_id", facts.prediction_id)
