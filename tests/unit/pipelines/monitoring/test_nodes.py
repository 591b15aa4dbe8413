from html.parser import HTMLParser

import pytest

from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.monitoring_run import MonitoringRun
from mlops_for_mle.pipelines.monitoring import nodes
from mlops_for_mle.pipelines.monitoring.charts import bin_names
from mlops_for_mle.pipelines.monitoring.checks import Check, Findings
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.records_monitoring import (
    CategoryColumn,
    ClassifiedCell,
    ColumnCounts,
    NumericColumn,
    ReferenceColumn,
    WindowCounts,
)
from tests.unit.pipelines.monitoring.examples import CONTRACT, reference, window

LABELLED = tuple(ClassifiedCell(one, one, 9, 100, 95.0, 1.0) for one in (0, 1))


def run(data: WindowCounts, **options: object) -> MonitoringRun:
    monitoring = MonitoringOptions.model_validate(options)
    checks = (
        nodes.check_performance,
        nodes.check_drift,
        nodes.check_data_quality,
        nodes.check_calibration,
    )
    found = (check(reference(), data, monitoring) for check in checks)
    return nodes.judge(reference(), data, *found, monitoring)


def judged(*checks: Check, significance: float = 0.01) -> MonitoringRun:
    nothing = Findings()
    options = MonitoringOptions(significance=significance)
    return nodes.judge(reference(), window(), nothing, Findings(checks), nothing, nothing, options)


def drift(subject: str, p_value: float, severity: str = "alarm") -> Check:
    return Check(
        "drift",
        subject,
        "population_stability_index",
        1.0,
        severity=severity,  # type: ignore[arg-type]
        p_value=p_value,
        message=f"feature {subject} has drifted",
    )


def test_what_looks_like_the_reference_is_healthy() -> None:
    found = run(window(classified=LABELLED))

    assert found.status == "healthy"
    assert found.reasons == ("200 predictions look like the 160 rows of the training snapshot.",)
    assert (found.prediction_count, found.labelled_count) == (200, 200)
    assert not any(one.is_alarm for one in found.metrics)


def test_the_significance_is_shared_by_all_tests_of_the_run() -> None:
    tests = [drift(f"f{index}", 0.9) for index in range(9)]

    assert judged(drift("width", 0.004)).status == "alarm"
    crowd = judged(drift("width", 0.004), *tests)
    assert crowd.status == "healthy"
    (found,) = (one for one in crowd.metrics if one.subject == "width")
    assert found.p_value == pytest.approx(0.04)
    assert judged(drift("width", 0.0009), *tests).status == "alarm"


def test_a_significant_test_without_an_effect_is_no_alarm() -> None:
    assert judged(drift("width", 0.0, severity="none")).status == "healthy"


def test_an_unconfirmed_loss_of_accuracy_is_a_warning_that_may_be_chance() -> None:
    check = Check(
        "performance",
        "prediction",
        "accuracy",
        0.8,
        severity="alarm",
        unconfirmed="warning",
        p_value=0.2,
        message="live accuracy is 0.8",
    )
    found = judged(check)
    assert found.status == "warning"
    assert found.reasons == ("Live accuracy is 0.8; p 0.2, which may be chance.",)
    assert not any(one.is_alarm for one in found.metrics)


def test_the_worst_comes_first_and_what_was_not_judged_last() -> None:
    found = judged(drift("a", 0.0, "warning"), drift("b", 0.0))
    assert found.status == "alarm"
    assert [reason.split()[1] for reason in found.reasons] == ["b", "a"]

    no_labels = run(window((5, 5, 10, 180), mean=3.5))
    assert no_labels.status == "alarm"
    assert no_labels.reasons[-1].startswith("Performance is not judged: 0 of the 50 labelled")


def test_too_few_rows_are_insufficient_unless_something_is_wrong_all_the_same() -> None:
    few = {"answers": (20, 20), "counts": (10, 10, 10, 10)}
    assert run(window(**few)).status == "insufficient"
    wrong = (ClassifiedCell(0, 1, None, 100),)
    assert run(window(**few, classified=wrong)).status == "alarm"


def test_a_number_that_is_none_is_recorded_as_none() -> None:
    found = judged(Check("drift", "a", "mean_shift", float("inf")))
    assert found.metrics[0].value is None


def test_the_shipped_parameters_are_the_defaults() -> None:
    import yaml

    from mlops_for_mle.paths import project_path

    path = project_path() / "conf/base/parameters_monitoring.yml"
    raw = yaml.safe_load(path.read_text("utf-8"))["monitoring"]
    assert parse_configuration(MonitoringOptions, raw, "monitoring") == MonitoringOptions()
    with pytest.raises(ConfigurationError, match=r"monitoring\.drift: warning 0.5 must not be"):
        parse_configuration(MonitoringOptions, {"drift": {"warning": 0.5}}, "monitoring")


class Page(HTMLParser):
    """Collects the elements of a report."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_report_shows_every_area_and_escapes_every_name() -> None:
    evil = '<script>alert("x")</script>'
    contract = Contract.model_validate(
        CONTRACT.model_dump() | {"features": {evil: {"unit": "<b>"}, "colour & co": {"minimum": 0}}}
    )
    one = reference().features[0]
    changed = reference(
        contract=contract,
        features=(
            ReferenceColumn(type(one.column)(**{**vars(one.column), "name": evil}), one.counts),
            ReferenceColumn(CategoryColumn("colour & co", (evil, "b")), (80, 80)),
        ),
    )
    data = window(
        classified=LABELLED,
        features={
            evil: ColumnCounts((5, 5, 10, 180), mean=3.5, deviation=1, least=0, largest=4),
            "colour & co": ColumnCounts((100, 90), unknown=10),
        },
    )
    options = MonitoringOptions()
    checks = (
        nodes.check_performance,
        nodes.check_drift,
        nodes.check_data_quality,
        nodes.check_calibration,
    )
    judged_run = nodes.judge(
        changed, data, *(check(changed, data, options) for check in checks), options
    )

    html = nodes.write_report(judged_run._replace(id=7), changed, data, options).html

    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert "script" not in tags
    assert tags.count("svg") == 4
    assert not any({"src", "href"} & set(attributes) for _, attributes in page.elements)
    for words in (evil, "colour & co", "Performance", "Calibration", "Data quality", "alarm"):
        assert words in page.words
    bars = [one for tag, one in page.elements if tag == "rect"]
    assert len(bars) == 2 * (4 + 2 + 2)
    assert all(0 <= float(str(one["height"])) <= 104 for one in bars)


def test_a_report_can_be_written_of_an_empty_window() -> None:
    empty = window(
        answers=(0, 0),
        features={"width": ColumnCounts((0, 0, 0, 0))},
        window_from=None,
        window_to=None,
        age_seconds=None,
    )
    found = run(empty)
    assert found.status == "insufficient"
    html = nodes.write_report(found, reference(), empty, MonitoringOptions()).html
    assert "0 predictions have a true label; 50 are needed." in html


def test_bins_of_dates_are_named_by_dates() -> None:
    day = 86_400.0
    days = NumericColumn("since", (20_000 * day, 20_010 * day), 20_005 * day, 6 * day, is_time=True)
    hours = NumericColumn("since", (20_000.5 * day,), 20_000 * day, 0.2 * day, is_time=True)

    assert bin_names(days) == ["below 2024-10-04", "2024-10-04 to 2024-10-14", "from 2024-10-14"]
    assert bin_names(hours) == ["below 10-04 12:00", "from 10-04 12:00"]
