"""What ``GET /metrics`` says of one process; of several, see ``test_prediction_log_processes``."""

import asyncio

import pytest

from mlops_for_mle.serving.context import Services
from tests.serving.conftest import IRIS_ROW, call, make, numbers, serve

SETOSA = dict(zip(IRIS_ROW, (5.1, 3.5, 1.4, 0.2), strict=True))


def samples(services: Services) -> dict[tuple, float]:
    answer = call(services, "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return numbers(answer.text)


def test_requests_are_counted_by_route_method_and_status_with_their_latency(settings, iris):
    services = make(settings, iris)
    metrics = services.metrics

    async def answer_three() -> None:
        metrics.requested("/predict", "POST", 200, 0.0004)
        metrics.requested("/predict", "POST", 200, 0.003)
        metrics.requested("/predict", "POST", 422, 99)
        await asyncio.sleep(0)

    asyncio.run(answer_three())
    call(services, "GET", "/v2/models/iris/versions/1")
    call(services, "PUT", "/predict")
    call(services, "GET", "/openapi.json")
    call(services, "GET", "/nowhere")

    found = samples(services)

    predict = (("method", "POST"), ("route", "/predict"), ("status", "200"))
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
        assert found[f"{name}_count", *labels] == 1


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
    assert found[("mlops_release_swaps_total",)] == 2
    served = [name for name in found if name[0] == "mlops_model_info" and found[name]]
    assert [dict(name[1:])["release"] for name in served] == [houses.manifest.release]


def test_other_parts_tell_their_numbers(settings, iris):
    services = make(settings, iris)
    call(services, "POST", "/predict", json=IRIS_ROW)
    services.metrics.release_failed()

    found = samples(services)

    assert found[("mlops_release_failures_total",)] == found[("mlops_deployment_failed",)] == 1
    assert found[("mlops_workers_ready",)] == 1
    assert found[("mlops_database_available",)] == 0
    assert found[("mlops_spool_bytes",)] == services.log.stored_bytes > 0
    assert found[("mlops_spool_limit_bytes",)] == settings.spool_max_bytes
    assert found[("mlops_spool_shipped_total",)] == 0
