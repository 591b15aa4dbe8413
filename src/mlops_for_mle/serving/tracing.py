"""Traces by OpenTelemetry, where the usual ``OTEL_*`` variables ask for them.

Needs the extra ``tracing``. Without those variables nothing is imported and nothing is wrapped.
Resource, sampler, limits and batches follow their variables by themselves.
"""

import logging
import os
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

if TYPE_CHECKING:
    from mlops_for_mle.serving.logs import RequestFacts

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTERS = ("otlp", "console", "none")

logger = logging.getLogger(__name__)


def is_wanted() -> bool:
    """Whether the environment names a collector or an exporter and does not switch it off."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return exporter != "none"
    return any(os.environ.get(name, "").strip() for name in _ENDPOINTS)


def traced(application: ASGIApp) -> ASGIApp | None:
    """The application inside of a span a request; None, with a warning, where it cannot be."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if exporter not in _EXPORTERS:
        logger.warning(
            "OTEL_TRACES_EXPORTER is %r, allowed: %s; nothing is traced",
            exporter,
            ", ".join(_EXPORTERS),
        )
        return None
    os.environ.setdefault("OTEL_SERVICE_NAME", "mlops-for-mle")
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    # A collector that is away must not hold up the end.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    try:
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        made: Any = ConsoleSpanExporter
        if exporter == "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            made = OTLPSpanExporter
    except ImportError as error:
        logger.warning(
            "Traces are asked for, but %s is not installed: install mlops-for-mle[tracing]; "
            "nothing is traced",
            error.name,
        )
        return None
    # Ends with the process, and sends what is left.
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(made()))
    return OpenTelemetryMiddleware(
        application,
        tracer_provider=provider,
        server_request_hook=_remember,
        exclude_spans=["receive", "send"],
    )


def _remember(span: Any, scope: dict[str, Any]) -> None:
    """For ``describe``, when the request has been answered."""
    scope.setdefault("state", {})["span"] = span


def describe(span: Any, method: str, route: str, facts: "RequestFacts") -> None:
    """Name a span after the route, and note what our logs call the request."""
    span.update_name(f"{method} {route}")
    span.set_attribute("http.route", route)
    span.set_attribute("mlops.request_id", facts.request_id)
    if facts.prediction_id is not None:
        span.set_attribute("mlops.prediction_id", facts.prediction_id)
