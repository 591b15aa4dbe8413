"""What ``GET /metrics`` says of one process; of several, see ``test_prediction_log_processes``."""

from tests.serving.conftest import IRIS_ROW

SETOSA = dict(zip(IRIS_ROW, (5.1, 3.5, 1.4, 0.2), strict=True))


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
