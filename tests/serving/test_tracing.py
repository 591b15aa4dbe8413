import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from mlops_for_mle.serving import tracing
from tests.serving.conftest import IRIS_ROW, wait_until

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector():
    """A server that takes OTLP over HTTP and keeps the spans."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                content = gzip.decompress(content)
            for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
    ],
)
def test_the_usual_variables_switch_traces_on_and_off(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert tracing.is_wanted() is expected


def test_an_unknown_exporter_is_a_warning_and_not_the_end(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")

    assert tracing.traced(None) is None
    assert "carrier-pigeon" in caplog.text


@pytest.mark.integration
def test_a_request_is_a_span_below_the_callers_and_names_its_prediction(
    start_server, database, store, iris, collector
):
    endpoint, spans = collector
    store.publish(iris)
    database.deploy(iris)
    server = start_server(DATABASE_URL=database.url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    server.wait_until_ready()

    headers = {"traceparent": PARENT}
    answer = httpx.post(f"{server.url}/predict", json=IRIS_ROW, headers=headers).json()
    assert server.stop() == 0

    def predicted():
        return [one for one in spans if one.name == "POST /predict"]

    wait_until(predicted)
    (span,) = predicted()
    assert span.trace_id.hex() == PARENT.split("-")[1]
    assert span.parent_span_id.hex() == PARENT.split("-")[2]
    attributes = {one.key: one.value for one in span.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["mlops.prediction_id"].string_value == answer["prediction_id"]
    assert "GET /health/ready" in {one.name for one in spans}
