import json
import logging

from mlops_for_mle.serving.logs import JsonFormatter, TextFormatter
from mlops_for_mle.serving.request import Request, current_request
from tests.serving.conftest import IRIS_ROW, Client


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
    ids = "[request_id=r-1 prediction_id=p-1]"
    shown = r"postgresql://me:***@db/x got mlops_*** \x1b[2J\rb\nc"
    assert text.endswith(f"{shown} {ids}")
    assert text.isprintable()
