"""What ``GET /metrics`` says, of one process and of several."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlops_for_mle.serving.context import Services
from tests.serving.conftest import IRIS_ROW, call, make, serve, wait_until

SETOSA = dict(zip(IRIS_ROW, (5.1, 3.5, 1.4, 0.2), strict=True))


def read(text: str) -> dict[tuple, float]:
    """Samples by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def samples(services: Services) -> dict[tuple, float]:
    answer = call(services, "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return read(answer.text)


def test_requests_are_counted_by_route_method_and_status_with_their_latency(settings, iris):
    services = make(settings, iris)
    metrics = services.metrics
    metrics.requested("/predict", "POST", 200, 0.0004)
    metrics.requested("/predict", "POST", 200, 0.003)
    metrics.requested("/predict", "POST", 422, 99)
    call(services, "GET", "/v2/models/iris/versions/1")
    call(services, "PUT", "/predict")
    call(services, "GET", "/openapi.json")
    call(services, "GET", "/nowhere")

    found = samples(services)

    predict = (("method", "POST"), ("route", "/predict"), ("status", "200"))
    assert found["mlops_requests_total", *predict] == 2
    name = "mlops_request_duration_seconds"
    assert found[f"{name}_count", *predict] == 2
    assert found[f"{name}_sum", *predict] == pytest.approx(0.0034)
    assert found[f"{name}_bucket", ("le", "0.0005"), *predict] == 1
    assert found[f"{name}_bucket", ("le", "0.005"), *predict] == 2
    slow = (("method", "POST"), ("route", "/predict"), ("status", "422"))
    assert found[f"{name}_bucket", ("le", "+Inf"), *slow] == 1
    for method, route, status in (
        ("GET", "/v2/models/{model}/versions/{version}", "200"),
        ("PUT", "/predict", "405"),
        ("GET", "/openapi.json", "200"),
        ("GET", "(unknown)", "404"),
    ):
        labels = (("method", method), ("route", route), ("status", status))
        assert found["mlops_requests_total", *labels] == 1


def test_predictions_are_counted_by_class_and_version(settings, iris, iris_second, houses):
    services = make(settings, iris)
    call(services, "POST", "/predict", json=SETOSA)
    call(services, "POST", "/predict", json=[SETOSA, IRIS_ROW, IRIS_ROW])
    call(services, "POST", "/predict/preview", json=SETOSA)
    services.releases.serve(serve(iris_second))
    call(services, "POST", "/invocations", json={"instances": [IRIS_ROW]})
    services.releases.serve(serve(houses))
    call(services, "POST", "/predict", json=[{"방 수": 3, "area m2": 100}] * 2)

    found = samples(services)

    def count(contract: str, version: str, name: str) -> float:
        labels = (("class", name), ("contract", contract), ("model_version", version))
        return found["mlops_predictions_total", *labels]

    assert count("iris", "1", "setosa") == 2
    assert count("iris", "1", "virginica") == 2
    assert count("iris", "2", "virginica") == 1
    assert count("houses", "1", "") == 2
    assert found[("mlops_spool_recorded_total",)] == 7
    assert found[("mlops_release_swaps_total",)] == 2
    served = [dict(name[1:]) for name in found if name[0] == "mlops_model_info"]
    assert [one["release"] for one in served] == [houses.manifest.release]


def test_other_parts_tell_their_numbers(settings, iris):
    services = make(settings, iris)
    services.metrics.release_failed()

    found = samples(services)

    assert found[("mlops_release_swaps_total",)] == 0
    assert found[("mlops_release_failures_total",)] == 1
    assert found[("mlops_workers_ready",)] == 1
    assert found[("mlops_deployment_failed",)] == found[("mlops_database_available",)] == 0
    assert found[("mlops_spool_limit_bytes",)] == settings.spool_max_bytes


@pytest.mark.integration
def test_two_workers_answer_a_scrape_as_one(start_server, database, store, iris):
    database.run("TRUNCATE predictions")
    store.publish(iris)
    database.deploy(iris)
    server = start_server("--workers", "2", DATABASE_URL=database.url)
    server.wait_until_ready()

    def scrape() -> dict[tuple, float]:
        return read(httpx.get(f"{server.url}/metrics").text)

    # The one that has answered is ready; the other one says so with its numbers.
    wait_until(lambda: scrape().get(("mlops_workers_ready",)) == 2, timeout=20)
    for _ in range(60):
        # A new connection each time, so that both processes take some.
        assert httpx.post(f"{server.url}/predict", json=IRIS_ROW).status_code == 200
    httpx.post(f"{server.url}/predict", json={})

    labels = (("method", "POST"), ("route", "/predict"))
    counted = ("mlops_requests_total", *labels, ("status", "200"))
    refused = ("mlops_requests_total", *labels, ("status", "422"))
    classes = (("class", "virginica"), ("contract", "iris"), ("model_version", "1"))
    # A worker takes over what its log has counted twice a second.
    wait_until(lambda: scrape()[("mlops_spool_recorded_total",)] == 60)
    for _ in range(10):
        found = scrape()
        assert found[counted] == 60
        assert found[refused] == 1
        assert found[("mlops_workers_ready",)] == 2
        assert found["mlops_predictions_total", *classes] == 60

    def recent() -> int:
        intervals = httpx.get(f"{server.url}/predictions/recent").json()["intervals"]
        return sum(one["counts"].get("2", 0) for one in intervals)

    wait_until(lambda: recent() == 60)
    assert server.stop() == 0
