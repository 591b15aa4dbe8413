"""Prometheus' view of the newest monitoring run."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import GaugeMetricFamily, Metric

from mlops_for_mle.serving.stores.monitoring_store import MonitoringRun, Status

_LABELS = ("contract", "area", "subject", "metric")


def monitoring_families(run: MonitoringRun | None) -> Iterator[Metric]:
    """The gauges of a run; none before the first."""
    if run is None:
        return
    value = GaugeMetricFamily(
        "mlops_monitoring_value", "What the newest monitoring run has measured.", labels=_LABELS
    )
    alarm = GaugeMetricFamily(
        "mlops_monitoring_alarm",
        "1 where the measured value is an alarm, 0 where it could be one.",
        labels=_LABELS,
    )
    for one in run.metrics:
        labels = (run.contract, one.area, one.subject, one.metric)
        if one.value is not None:
            value.add_metric(labels, one.value)
        if one.threshold is not None:
            alarm.add_metric(labels, float(one.is_alarm))
    status = GaugeMetricFamily(
        "mlops_monitoring_status",
        "1 for the status of the newest monitoring run.",
        labels=("contract", "release", "status"),
    )
    for name in get_args(Status):
        status.add_metric((run.contract, run.release, name), float(name == run.status))
    yield value
    yield alarm
    yield status
    if run.created_at is not None:
        yield _number(
            run,
            "mlops_monitoring_timestamp_seconds",
            "When the newest monitoring run was recorded, seconds since 1970.",
            run.created_at.timestamp(),
        )
    yield _number(
        run,
        "mlops_monitoring_predictions",
        "Predictions in the window of the newest monitoring run.",
        run.prediction_count,
    )
    yield _number(
        run,
        "mlops_monitoring_labelled_predictions",
        "Labelled predictions that the newest monitoring run has looked at.",
        run.labelled_count,
    )


def _number(run: MonitoringRun, name: str, description: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, description, labels=("contract",))
    family.add_metric((run.contract,), value)
    return family
