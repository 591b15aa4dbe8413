import json
import logging

import pytest

from mlops_for_mle.serving.logs import (
    JsonFormatter,
    RequestFacts,
    TextFormatter,
    current_request,
)
from tests.serving.conftest import IRIS_ROW, Client


def test_a_sane_request_id_comes_back_and_others_are_replaced(settings, iris):
    client = Client(settings, iris)

    def answered(given: str | None) -> str:
        headers = {} if given is None else {"X-Request-ID": given}
        return client("POST", "/predict", json=IRIS_ROW, headers=headers).headers["x-request-id"]

    assert answered("order-17/a") == "order-17/a"
    made = {answered(None), answered(None), answered("<script>"), answered("x" * 129), answered("")}
    assert len(made) == 5
    assert all(len(one) == 32 for one in made)


@pytest.mark.parametrize("path", ["/predict", "/model", "/nowhere", "/", "/docs", "/metrics"])
def test_each_answer_has_the_headers_that_protect_browsers(settings, iris, path):
    headers = Client(settings, iris)("GET", path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] in {"no-store", "no-cache"}
    assert len(headers.get_list("content-security-policy")) == 1


@pytest.mark.parametrize(
    ("access_log", "is_served", "statuses"),
    [("errors", True, []), ("errors", False, [503]), ("all", True, [200, 200]), ("off", False, [])],
)
def test_errors_are_logged_and_good_answers_where_that_is_asked_for(
    settings, iris, caplog, access_log, is_served, statuses
):
    caplog.set_level(logging.INFO, "mlops_for_mle")
    client = Client(settings, iris if is_served else None, access_log=access_log)
    caplog.clear()

    client("POST", "/predict", json=IRIS_ROW)
    # That a probe fails is no news.
    client("GET", "/health/ready")

    assert [one.status for one in caplog.records] == statuses
    assert all(one.duration_ms > 0 for one in caplog.records)


def make_record(message: str, **extra) -> logging.LogRecord:
    return logging.getLogger("x").makeRecord(
        "x", logging.INFO, "f", 1, message, (), None, extra=extra
    )


def test_a_line_has_the_ids_of_its_request_and_no_secrets():
    facts = RequestFacts("r-1")
    facts.prediction_id, key = "p-1", "mlops_" + "a1B2_" * 8 + "abc"
    token = current_request.set(facts)
    try:
        line = JsonFormatter().format(make_record('two\nlines "quoted"', status=200))
        text = TextFormatter().format(make_record(f"postgresql://me:hunter2@db/x got {key}"))
    finally:
        current_request.reset(token)

    assert "\n" not in line
    found = json.loads(line)
    assert found["message"] == 'two\nlines "quoted"'
    assert (found["request_id"], found["prediction_id"]) == ("r-1", "p-1")
    assert (found["level"], found["status"]) == ("info", 200)
    ids = "[request_id=r-1 prediction_id=p-1]"
    assert text.endswith(f"postgresql://me:***@db/x got mlops_*** {ids}")


def test_the_text_log_writes_no_raw_control_characters():
    record = make_record("GET /%s answered 404", status=404)
    record.args = ("a\x1b[2J\rb\nc",)

    line = TextFormatter().format(record)

    assert line.isprintable()
    assert "a\\x1b[2J\\rb\\nc" in line
