import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.serving.conftest import wait_until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector():
    """A server that takes OTLP over HTTP and keeps the spans."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
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


@pytest.mark.integration
def test_a_request_is_a_span_below_the_callers(start_serving, iris, collector):
    endpoint, spans = collector
    server = start_serving(iris, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)

    server.headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    server.predict()
    server.end()

    (span,) = wait_until(lambda: [one for one in spans if one.name == "POST /predict"])
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    attributes = {one.key: one.value for one in span.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert "GET /health/ready" in {one.name for one in spans}
