import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import pytest

from mlops_for_mle.pipelines.monitoring.checks import Area
from tests import PROJECT
from tests.serving.conftest import NOWHERE, Client
from tests.serving.monitored import METRICS, record_run


@pytest.fixture
def client(settings, database, iris) -> Client:
    return Client(settings, iris, model="iris")


def test_the_report_is_given_as_it_was_written_and_loads_nothing(client, database):
    assert client.get("/monitoring/report").status_code == 404
    html = "<!doctype html><style>p { color: red }</style><p>드리프트"
    database.run("INSERT INTO monitoring_reports VALUES ('iris', :html)", html=html)
    database.run("INSERT INTO monitoring_reports VALUES ('houses', 'another')")

    answer = client.get("/monitoring/report")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src ")
    assert answer.text == html


def test_the_newest_run_comes_with_its_numbers_and_the_others_with_their_status(client, database):
    record_run(database, status="healthy")
    record_run(database, contract="houses", status="warning")
    newest = record_run(database)
    looks_back = datetime(2026, 4, 1, tzinfo=UTC)
    record_run(database, status="warning", window_to=looks_back)

    body = client.get("/monitoring").json()

    assert body["newest"]["id"] == newest.id
    assert body["newest"]["status"] == "alarm"
    assert body["newest"]["reasons"] == ["Feature petal_length has drifted."]
    assert body["newest"]["window_to"] == "2026-05-02T00:00:00Z"
    assert [one["status"] for one in body["runs"]] == ["alarm", "healthy", "warning"]
    assert all("metrics" not in one for one in body["runs"])
    found = {(one["subject"], one["metric"]): one for one in body["newest"]["metrics"]}
    assert len(found) == len(METRICS)
    drift = found["petal_length", "population_stability_index"]
    assert (drift["value"], drift["threshold"], drift["is_alarm"]) == (1.5, 0.25, True)
    assert found['방 수 "x"', "missing_fraction"]["value"] is None


def test_the_gauges_are_those_of_the_newest_run_without_its_segments(client, database, monkeypatch):
    record_run(database, status="healthy")
    part = replace(METRICS[2], segment="region=north", value=0.5)
    newest = record_run(database, metrics=(*METRICS, part))

    assert len(client.get("/monitoring").json()["newest"]["metrics"]) == len(METRICS)
    found = client.samples()

    drift = {"area": "drift", "metric": "population_stability_index", "subject": "petal_length"}
    labels = tuple(sorted({"contract": "iris", **drift}.items()))
    assert found["mlops_monitoring_value", *labels] == 1.5
    assert found["mlops_monitoring_alarm", *labels] == 1
    at = found["mlops_monitoring_timestamp_seconds", ("contract", "iris")]
    assert at == pytest.approx(newest.created_at.timestamp())
    assert found["mlops_monitoring_labelled_predictions", ("contract", "iris")] == 120
    judged = [dict(name[1:]) for name in found if name[0] == "mlops_monitoring_alarm"]
    expected = {"population_stability_index", "accuracy", "estimated_accuracy", "missing_fraction"}
    assert {one["metric"] for one in judged} == expected
    assert 0.5 not in [found[name] for name in found if name[0] == "mlops_monitoring_value"]
    # The alerts ask for gauges and labels that a run has.
    rules = (PROJECT / "deploy/prometheus/rules/monitoring.yml").read_text("utf-8")
    assert set(re.findall(r"mlops_monitoring_\w+", rules)) <= {name for name, *_ in found}
    assert set(re.findall(r'area="(\w+)"', rules)) <= set(get_args(Area))
    grouped = ", ".join(re.findall(r"by \(([\w, ]+)\)", rules)).split(", ")
    assert set(grouped) <= judged[0].keys()

    # A scrape never fails for the database.
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert "mlops_monitoring_value" not in answer.text
