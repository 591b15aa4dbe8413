"""What the server tells of its requests: ids and log lines, metrics, spans.

Metrics of several processes stand in ``test_prediction_log_processes``.
"""

import json
import logging
from http.server import BaseHTTPRequestHandler

import pytest

from mlops_for_mle.serving.logs import JsonFormatter, TextFormatter
from mlops_for_mle.serving.request import Request, current_request
from tests.servers import http_server
from tests.serving.conftest import IRIS_ROW, Client

SETOSA = dict(zip(IRIS_ROW, (5.1, 3.5, 1.4, 0.2), strict=True))
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_sane_request_id_comes_back_and_others_are_replaced(client):
    def answered(**headers: str) -> str:
        return client.post("/predict", json=IRIS_ROW, headers=headers).headers["x-request-id"]

    assert answered(**{"X-Request-ID": "order-17/a"}) == "order-17/a"
    odd = [answered(**{"X-Request-ID": one}) for one in ("<script>", "x" * 129, "")]
    made = {answered(), answered(), *odd}
    assert len(made) == 5
    assert all(len(one) == 32 for one in made)


def test_each_answer_has_the_headers_that_protect_browsers(client):
    for path in ("/predict", "/model", "/nowhere", "/", "/docs", "/metrics"):
        headers = client.get(path).headers

        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        (policy,) = headers.get_list("content-security-policy")
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["cache-control"] in {"no-store", "no-cache"}, path


def test_failures_are_logged_and_good_answers_where_that_is_asked_for(settings, iris, caplog):
    def logged(client: Client, level: int) -> list[int]:
        caplog.clear()
        caplog.set_level(level, "mlops_for_mle")
        client.post("/predict", json=IRIS_ROW)
        # That a probe fails is no news.
        client.get("/health/ready")
        assert all(one.duration_ms > 0 for one in caplog.records)
        return [one.status for one in caplog.records]

    ready, empty = Client(settings, iris), Client(settings)
    assert logged(ready, logging.INFO) == []
    assert logged(empty, logging.INFO) == [503]
    assert logged(ready, logging.DEBUG) == [200, 200]


def record(message: str, **extra) -> logging.LogRecord:
    return logging.getLogger("x").makeRecord(
        "x", logging.INFO, "f", 1, message, (), None, extra=extra
    )


def test_a_line_has_the_ids_of_its_request_and_neither_secrets_nor_control_characters():
    key = "mlops_" + "a1B2_" * 8 + "abc"
    token = current_request.set(Request("GET", "/", {}, None, 0, "r-1", prediction_id="p-1"))
    try:
        line = JsonFormatter().format(record('two\nlines "quoted"', status=200))
        text = TextFormatter().format(
            record(f"postgresql://me:hunter2@db/x got {key} \x1b[2J\rb\nc")
        )
    finally:
        current_request.reset(token)

    assert "\n" not in line
    found = json.loads(line)
    assert found["message"] == 'two\nlines "quoted"'
    assert (found["request_id"], found["prediction_id"]) == ("r-1", "p-1")
    assert (found["level"], found["status"]) == ("info", 200)
    assert text == r"postgresql://me:***@db/x got mlops_*** \x1b[2J\rb\nc"


def test_requests_are_counted_by_route_method_and_status_with_their_latency(client):
    for body in (SETOSA, SETOSA, {}):
        client.post("/predict", json=body)
    client.get("/v2/models/iris/versions/1")
    client.request("PUT", "/predict")
    client.get("/nowhere")

    found = client.samples()

    name = "mlops_request_duration_seconds"
    for method, route, status, count in (
        ("POST", "/predict", "200", 2),
        ("POST", "/predict", "422", 1),
        ("GET", "/v2/models/{model}/versions/{version}", "200", 1),
        ("PUT", "/predict", "405", 1),
        ("GET", "(unknown)", "404", 1),
    ):
        labels = (("method", method), ("route", route), ("status", status))
        assert found[f"{name}_count", *labels] == count
        assert found[f"{name}_bucket", ("le", "+Inf"), *labels] == count
        assert 0 < found[f"{name}_sum", *labels] < 60


def test_predictions_are_counted_by_class_and_version_beside_the_state_of_other_parts(
    client, settings, iris_second, houses
):
    client.predict(SETOSA)
    client.predict([SETOSA, IRIS_ROW, IRIS_ROW])
    client.post("/explain", json=SETOSA)
    client.serve(iris_second)
    client.post("/invocations", json={"instances": [IRIS_ROW]})
    client.serve(houses)
    client.predict([{"방 수": 3, "area m2": 100}] * 2)

    found = client.samples()

    for contract, version, label, count in (
        ("iris", "1", "setosa", 2),
        ("iris", "1", "virginica", 2),
        ("iris", "2", "virginica", 1),
        ("houses", "1", "", 2),
    ):
        labels = (("class", label), ("contract", contract), ("model_version", version))
        assert found["mlops_predictions_total", *labels] == count
    assert found[("mlops_release_swaps_total",)] == 2
    served = [name for name in found if name[0] == "mlops_model_info" and found[name]]
    assert [dict(name[1:])["release"] for name in served] == [houses.manifest.release]
    for name, value in {
        "release_failures_total": 0,
        "deployment_failed": 0,
        "ready": 1,
        "database_available": 0,
        "spool_bytes": client.services.log.stored_bytes,
        "spool_limit_bytes": settings.spool_max_bytes,
        "spool_shipped_total": 0,
    }.items():
        assert found[f"mlops_{name}",] == value, name
    assert client.services.log.stored_bytes > 0


@pytest.fixture
def collector():
    """A server that takes OTLP over HTTP and keeps it."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http_server(Handler) as url:
        yield url, taken


def test_a_request_is_a_span_below_the_callers(start_serving, iris, collector):
    endpoint, taken = collector
    server = start_serving(iris, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)

    server.headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    server.predict()
    server.end()

    spans = b"".join(taken)
    for told in (
        bytes.fromhex(TRACE),
        bytes.fromhex(PARENT),
        b"POST /predict",
        b"GET /health/ready",
    ):
        assert told in spans
