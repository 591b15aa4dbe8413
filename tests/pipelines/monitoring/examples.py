"""References and windows for the tests of monitoring."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.monitoring.checks import Metric, MonitoringRun, judge
from mlops_for_mle.pipelines.monitoring.counting import LabelledCount, Window
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.reference import BinnedColumn, Expectation, Reference
from mlops_for_mle.pipelines.monitoring.retraining import RetrainingDecision
from mlops_for_mle.releases.manifest import SnapshotFacts
from tests.releases import changed, contract_of, iris_release

CONTRACT = contract_of("small", {"width": {"minimum": 0, "maximum": 10, "unit": "cm"}}, "no yes")
LINE = contract_of("line", {"width": {}})

WIDTH = BinnedColumn("number", (1.0, 2.0, 3.0), counts=(40, 40, 40, 40))
ANSWERS = BinnedColumn("class", (1, 2), ("no", "yes"), counts=(0, 80, 80))
DECISION = RetrainingDecision(
    id=7, contract="iris", monitoring_run_id=None, decision="retrain", reasons=["drift: alarm."]
)


BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def at(hour: float) -> datetime:
    return BEGIN + timedelta(hours=hour)


def reference(contract: Contract = CONTRACT, **features: BinnedColumn) -> Reference:
    """Four bins of 40 rows each, both classes equally often."""
    manifest = changed(
        iris_release(),
        contract=contract,
        metrics={"validation_accuracy": 0.95, "validation_rmse": 2.0},
        snapshot=SnapshotFacts(source="", sha256="", watermark=None, row_count=160),
    ).manifest
    prediction = BinnedColumn("answer", (5.0,), counts=(80, 80))
    if contract.target.classes:
        prediction = ANSWERS
    columns = (features or {"width": WIDTH}) | {"prediction": prediction}
    return Reference(manifest, MonitoringOptions(), {"": columns}, Expectation())


def widths(*counts: int, **changes: Any) -> BinnedColumn:
    """How the values of the feature lie in its four bins."""
    return replace(WIDTH, counts=counts, **changes)


def window(
    counts: BinnedColumn | None = None, answers: tuple[int, ...] = (100, 100), **changes: Any
) -> Window:
    """Two hundred predictions in two hours that look like the reference."""
    facts: dict[str, Any] = {
        "row_count": sum(answers),
        "window_from": datetime(2026, 5, 1, tzinfo=UTC),
        "window_to": datetime(2026, 5, 1, 2, tzinfo=UTC),
        "columns": {
            "width": counts or widths(50, 50, 50, 50),
            "prediction": replace(ANSWERS, counts=(0, *answers)),
        },
    }
    return Window(**facts | changes)


def rated(right: int, wrong: int) -> tuple[LabelledCount, ...]:
    """Labelled predictions of a class."""
    return (LabelledCount(0, 0, right), LabelledCount(1, 0, wrong))


def run(data: Window, compared: Reference | None = None, **options: Any) -> MonitoringRun:
    """Judge a window that has no parts."""
    compared = replace(compared or reference(), options=MonitoringOptions.model_validate(options))
    return judge(compared, {"": data})


def metric(found: MonitoringRun, subject: str, name: str) -> Metric:
    """The one metric of that name."""
    (one,) = (one for one in found.metrics if (one.subject, one.metric) == (subject, name))
    return one


def alarms(found: MonitoringRun) -> set[tuple[str, str]]:
    """Subject and metric of what is an alarm."""
    return {(one.subject, one.metric) for one in found.metrics if one.is_alarm}
