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


def _exporter() -> str:
    default = "otlp" if any(os.environ.get(name, "").strip() for name in _ENDPOINTS) else "none"
    return os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or default


def is_wanted() -> bool:
    """Whether the environment names a collector or an exporter and does not switch it off."""
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not is_off and _exporter() != "none"


def traced(application: ASGIApp) -> ASGIApp | None:
    """The application inside of a span a request; None, with a warning, where it cannot be."""
    os.environ.setdefault("OTEL_SERVICE_NAME", "mlops-for-mle")
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    # A collector that is away must not hold up the end.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    name = {"otlp": "otlp_proto_http"}.get(_exporter(), _exporter())
    try:
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        (exporter,) = entry_points(group="opentelemetry_traces_exporter", name=name)
        # Ends with the process, and sends what is left.
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(exporter.load()()))
    except (ImportError, ValueError):
        logger.warning(
            "Traces are asked for, but their exporter %s is not installed: install "
            "mlops-for-mle[tracing]; nothing is traced",
            name,
        )
        return None
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
