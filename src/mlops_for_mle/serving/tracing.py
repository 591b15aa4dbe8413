"""Traces by OpenTelemetry, sent by OTLP over HTTP where ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set.

Needs the extra ``tracing``. Without that variable nothing is imported and nothing is wrapped; all
others, such as ``OTEL_SDK_DISABLED`` and ``OTEL_TRACES_SAMPLER``, are followed by OpenTelemetry.
"""

import logging
import os
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

if TYPE_CHECKING:
    from mlops_for_mle.serving.logs import RequestFacts

logger = logging.getLogger(__name__)


def make_provider() -> Any | None:
    """What sends spans, or None; to be shut down at the end, so that it sends what is left."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return None
    os.environ.setdefault("OTEL_SERVICE_NAME", "mlops-for-mle")
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    # A collector that is away must not hold up the end.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        logger.warning("Nothing is traced: `pip install mlops-for-mle[tracing]` (%s)", error)
        return None
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
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
