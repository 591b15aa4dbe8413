"""Logs, a line of JSON or of text for people; and traces.

Traces are sent by OTLP over HTTP where ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set; this needs the extra
``tracing``. Without that variable nothing is imported and nothing is wrapped; all others, such as
``OTEL_SDK_DISABLED`` and ``OTEL_TRACES_SAMPLER``, are followed by OpenTelemetry.
"""

import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.types import ASGIApp

from mlops_for_mle.errors import without_secrets
from mlops_for_mle.serving.request import current_request

_STANDARD = {"asctime", "color_message", "message", "taskName", *vars(logging.makeLogRecord({}))}

logger = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """A record as one JSON object, with the ids of its request and what was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        request = current_request.get(None)
        for name in ("request_id", "prediction_id"):
            if value := getattr(request, name, ""):
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return without_secrets(msgspec.json.encode(line, enc_hook=str).decode())


class TextFormatter(logging.Formatter):
    """A record as one line for people; a traceback stands below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the name is logging's)
        """Give the line, without what a terminal would obey: a client's text may hold that."""
        line = super().formatMessage(record)
        return "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in line
        )

    def format(self, record: logging.LogRecord) -> str:
        """Give the line and the traceback."""
        return without_secrets(super().format(record))


def log_configuration(level: str) -> dict[str, Any]:
    """The configuration of logging: text for a terminal, JSON for all else."""
    formatter = TextFormatter if sys.stderr.isatty() else JsonFormatter
    text = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter, "fmt": text}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {"uvicorn": {"level": "WARNING"}, "mlops_for_mle": {"level": level.upper()}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
    }


def make_tracer_provider() -> Any | None:
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

    return OpenTelemetryMiddleware(
        application, tracer_provider=provider, exclude_spans=["receive", "send"]
    )
