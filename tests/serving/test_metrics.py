import re
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from mlops_for_mle.serving.metrics.exposition import exposition
from mlops_for_mle.serving.metrics.prometheus import PrometheusMetrics
from mlops_for_mle.serving.metrics.recent import SHOWN_PREDICTIONS, merge
from mlops_for_mle.serving.recording import AnsweredPredictions
from prometheus_client.parser import text_string_to_metric_families

from mlops_for_mle.predictor import Predictor
from tests.serving.conftest import IRIS_ROW, serve, wait_until


def read(text: str) -> dict[tuple, float]:
    """Samples by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def samples(metrics: PrometheusMetrics) -> dict[tuple, float]:
    content, content_type = exposition(metrics, "")
    assert content_type.startswith("text/plain")
    return read(content.decode())


def answer(release, rows, at: float | None = None) -> AnsweredPredictions:
    rows = np.array(rows, dtype=np.float64)
    return AnsweredPredictions(
        prediction_id="p",
        answered_at=int((at if at is not None else time.time()) * 1e9),
        manifest=release.manifest,
        rows=rows,
        predictions=Predictor(release).predict(rows),
        latency_seconds=0.001,
        request_id=None,
    )


def test_requests_are_counted_by_route_method_and_status_with_their_latency():
    metrics = PrometheusMetrics()
    metrics.requested("/predict", 200, 0.0004)
    metrics.requested("/predict", 200, 0.003)
    metrics.requested("/predict", 422, 99)
    metrics.requested("GET /observations/{id}", 200, 0.02)

    found = samples(metrics)

    predict = (("method", "POST"), ("route", "/predict"), ("status", "200"))
    assert found["mlops_requests_total", *predict] == 2
    name = "mlops_request_duration_seconds"
    assert found[f"{name}_count", *predict] == 2
    assert found[f"{name}_sum", *predict] == pytest.approx(0.0034)
    assert found[f"{name}_bucket", ("le", "0.0005"), *predict] == 1
    assert found[f"{name}_bucket", ("le", "0.0025"), *predict] == 1
    assert found[f"{name}_bucket", ("le", "0.005"), *predict] == 2
    slow = (("method", "POST"), ("route", "/predict"), ("status", "422"))
    assert found[f"{name}_bucket", ("le", "10.0"), *slow] == 0
    assert found[f"{name}_bucket", ("le", "+Inf"), *slow] == 1
    read_one = (("method", "GET"), ("route", "/observations/{id}"), ("status", "200"))
    assert found["mlops_requests_total", *read_one] == 1


def test_predictions_are_counted_by_class_and_version(iris, iris_second, houses):
    metrics = PrometheusMetrics()
    setosa, virginica = [5.1, 3.5, 1.4, 0.2], [6.7, 3.3, 5.7, 2.1]
    metrics.answered(answer(iris, [setosa]))
    metrics.answered(answer(iris, [setosa, virginica, virginica]))
    metrics.answered(answer(iris_second, [virginica]))
    metrics.answered(answer(houses, [[3, 100], [4, 120]]))

    found = samples(metrics)

    def count(contract: str, version: str, name: str) -> float:
        labels = (("class", name), ("contract", contract), ("model_version", version))
        return found["mlops_predictions_total", *labels]

    assert count("iris", "1", "setosa") == 2
    assert count("iris", "1", "virginica") == 2
    assert count("iris", "2", "virginica") == 1
    assert count("houses", "1", "") == 2


def test_swaps_and_failures_are_counted_and_the_first_release_is_no_swap(iris, iris_second):
    metrics = PrometheusMetrics()
    metrics.release_loaded(iris.manifest)
    assert samples(metrics)[("mlops_release_swaps_total",)] == 0
    metrics.release_loaded(iris_second.manifest)
    metrics.release_failed("iris-v3")

    found = samples(metrics)

    assert found[("mlops_release_swaps_total",)] == 1
    assert found[("mlops_release_failures_total",)] == 1
    served = [dict(name[1:]) for name in found if name[0] == "mlops_model_info"]
    assert [one["release"] for one in served] == [iris_second.manifest.release]


def test_other_parts_add_gauges_and_counters():
    metrics = PrometheusMetrics()
    metrics.gauge("mlops_depth", "How deep, in rows.", lambda: 7)
    metrics.counter("mlops_lost_total", "How many were lost.", lambda: 3)

    found = samples(metrics)

    assert found[("mlops_depth",)] == 7
    assert found[("mlops_lost_total",)] == 3


def test_nothing_is_lost_when_several_threads_count():
    metrics = PrometheusMetrics()

    def count() -> None:
        for _ in range(5000):
            metrics.requested("/predict", 200, 0.001)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    labels = (("method", "POST"), ("route", "/predict"), ("status", "200"))
    assert samples(metrics)["mlops_requests_total", *labels] == 20_000


def test_processes_are_summed_and_those_that_ended_keep_their_counts(tmp_path):
    one, other = PrometheusMetrics(tmp_path), PrometheusMetrics(tmp_path)
    for metrics, requests, depth in ((one, 3, 10.0), (other, 4, 30.0)):
        for _ in range(requests):
            metrics.requested("/predict", 200, 0.001)
        metrics.gauge("mlops_total", "Summed.", lambda depth=depth: depth)
        metrics.gauge("mlops_worst", "The worst.", lambda depth=depth: depth, combine="max")
    other.stop()
    other.snapshots()

    labels = (("method", "POST"), ("route", "/predict"), ("status", "200"))
    found = samples(one)
    assert found["mlops_requests_total", *labels] == 7
    assert (found[("mlops_total",)], found[("mlops_worst",)]) == (40, 30)

    (published,) = [
        path for path in tmp_path.glob("*.json") if b'"value":30.0' in path.read_bytes()
    ]
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    content = re.sub(rb'"pid":\d+', b'"pid":%d' % ended.pid, published.read_bytes())
    published.write_bytes(content)
    found = samples(one)
    assert found["mlops_requests_total", *labels] == 7
    assert (found[("mlops_total",)], found[("mlops_worst",)]) == (10, 10)


def test_recent_predictions_are_joined_by_time_and_bounded(iris, houses):
    one, other = PrometheusMetrics(), PrometheusMetrics()
    setosa = [5.1, 3.5, 1.4, 0.2]
    one.answered(answer(iris, [setosa], at=1000))
    other.answered(answer(iris, [setosa, setosa], at=1002))
    other.answered(answer(iris, [setosa], at=1006))

    view = merge(metrics.snapshots()[0].recent for metrics in (one, other))

    assert [(one.start, one.counts) for one in view.intervals] == [
        (1000, {"0": 3}),
        (1005, {"0": 1}),
    ]
    assert [one.answered_at for one in view.predictions] == [1006, 1002, 1002, 1000]
    assert [one.prediction_id for one in view.predictions] == ["p", "p-0", "p-1", "p"]
    assert view.predictions[0].features == dict(zip(IRIS_ROW, setosa, strict=True))
    for _ in range(100):
        one.answered(answer(houses, [[3, 100]] * 9))
    assert len(one.snapshots()[0].recent.predictions) == SHOWN_PREDICTIONS


def test_a_large_request_does_not_stay_in_memory(iris):
    metrics = PrometheusMetrics()
    large = answer(iris, [[5.1, 3.5, 1.4, 0.2]] * 10_000)
    metrics.answered(large)

    (kept,) = metrics._recent._answered
    assert len(kept.rows) < 10
    assert kept.rows.base is None


def test_a_regression_shows_its_range(houses):
    metrics = PrometheusMetrics()
    metrics.answered(answer(houses, [[3, 100], [3, 50]], at=1000))
    metrics.answered(answer(houses, [[3, 200]], at=1001))

    (interval,) = metrics.snapshots()[0].recent.intervals

    assert interval.counts == {"": 3}
    assert interval.minimum == pytest.approx(130, rel=1e-3)
    assert interval.maximum == pytest.approx(430, rel=1e-3)
    assert interval.total == pytest.approx(130 + 230 + 430, rel=1e-3)


@pytest.mark.integration
def test_two_workers_answer_a_scrape_as_one(start_server, database, store, iris):
    store.publish(iris)
    database.deploy(iris)
    server = start_server("--workers", "2", DATABASE_URL=database.url)
    server.wait_until_ready()

    def scrape() -> dict[tuple, float]:
        return read(httpx.get(f"{server.url}/metrics").text)

    # The one that has answered is ready; the other one says so with its numbers.
    wait_until(lambda: scrape().get(("mlops_workers_ready",)) == 2)
    for _ in range(60):
        # A new connection each time, so that both processes take some.
        assert httpx.post(f"{server.url}/predict", json=IRIS_ROW).status_code == 200
    httpx.post(f"{server.url}/predict", json={})
    httpx.get(f"{server.url}/model")

    labels = (("method", "POST"), ("route", "/predict"))
    counted = ("mlops_requests_total", *labels, ("status", "200"))
    refused = ("mlops_requests_total", *labels, ("status", "422"))
    # A worker publishes its counts twice a second; the other one answers with those.
    wait_until(lambda: (scrape().get(counted), scrape().get(refused)) == (60, 1), timeout=5)
    for _ in range(10):
        found = scrape()
        assert found[counted] == 60
        assert found[refused] == 1
        assert found[("mlops_workers",)] == 2
        assert found[("mlops_workers_ready",)] == 2
    classes = (("class", "virginica"), ("contract", "iris"), ("model_version", "1"))
    assert found["mlops_predictions_total", *classes] == 60
    assert found[("mlops_spool_recorded_total",)] == 60
    recent = httpx.get(f"{server.url}/predictions/recent").json()
    assert sum(one["counts"]["2"] for one in recent["intervals"]) == 60
    assert server.stop() == 0


def test_requests_for_the_openapi_document_are_counted_by_its_route(settings, iris):
    services = build_services(settings, metrics=PrometheusMetrics())
    services.slot.serve(serve(iris))

    assert call(services, "GET", "/openapi.json").json()["openapi"].startswith("3.")

    labels = (("method", "GET"), ("route", "/openapi.json"), ("status", "200"))
    assert samples(services.metrics)["mlops_requests_total", *labels] == 1


def test_a_method_that_a_hot_route_does_not_take_is_counted_by_its_own_name(settings, iris):
    services = build_services(settings, metrics=PrometheusMetrics())
    services.slot.serve(serve(iris))

    assert call(services, "PUT", "/predict", json=IRIS_ROW).status_code == 405

    labels = (("method", "PUT"), ("route", "/predict"), ("status", "405"))
    assert samples(services.metrics)["mlops_requests_total", *labels] == 1
