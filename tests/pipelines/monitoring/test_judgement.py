"""From checks to a state in words, and its report."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.monitoring.checks import Check, Severity
from mlops_for_mle.pipelines.monitoring.judgement import judge
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.record import MonitoringRun, summarise
from mlops_for_mle.pipelines.monitoring.reference import Column
from mlops_for_mle.pipelines.monitoring.report import bin_names, write_report
from mlops_for_mle.pipelines.monitoring.window import Cell, ColumnCounts, Window
from tests.pipelines.monitoring.examples import CONTRACT, EMPTY, WIDTH, reference, widths, window
from tests.pipelines.monitoring.steps import assess

LABELLED = tuple(Cell(one, one, 9, 100, 95.0, 1.0) for one in (0, 1))


def run(data: Window) -> MonitoringRun:
    return assess(reference(), data, MonitoringOptions())


def judged(*checks: Check, significance: float = 0.01) -> MonitoringRun:
    options = MonitoringOptions(significance=significance)
    return judge(reference(), window(cells=LABELLED), (), checks, (), (), options)


def drift(subject: str, p_value: float, severity: Severity = "alarm") -> Check:
    return Check(
        *("drift", subject, "population_stability_index", 1.0),
        severity=severity,
        p_value=p_value,
        message=f"feature {subject} has drifted",
    )


def test_what_looks_like_the_reference_is_healthy() -> None:
    found = run(window(cells=LABELLED))

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
        if_chance="warning",
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

    no_labels = run(window(widths(5, 5, 10, 180, mean=3.5)))
    assert no_labels.status == "alarm"
    assert no_labels.reasons[-1].startswith("Performance is not judged: 0 of the 50 labelled")


def test_too_few_rows_are_insufficient_unless_something_is_wrong_all_the_same() -> None:
    few: dict[str, Any] = {"answers": (20, 20), "counts": widths(10, 10, 10, 10)}
    found = run(window(**few))
    assert found.status == "insufficient"
    assert found.reasons == (
        "Drift is not judged: 40 of the 100 predictions that drift needs.",
        "Performance is not judged: 0 of the 50 labelled predictions that performance needs.",
    )
    assert run(window(**few, cells=(Cell(0, 1, None, 100),))).status == "alarm"


def test_a_number_that_is_none_is_recorded_as_none() -> None:
    found = judged(Check("drift", "a", "mean_shift", float("inf")))
    assert found.metrics[0].value is None


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
    evil = '<script>alert("x")</script> $x_1$ 색'
    contract = Contract.model_validate(
        CONTRACT.model_dump() | {"features": {evil: {"unit": "<b>"}, "colour & co": {"minimum": 0}}}
    )
    colours = Column("colour & co", "category", (1, 2), (0, 80, 80), categories=(evil, "b"))
    changed = reference(contract, replace(WIDTH, name=evil), colours)
    data = window(
        cells=LABELLED,
        features={
            evil: widths(5, 5, 10, 180, mean=3.5),
            "colour & co": ColumnCounts((10, 100, 90)),
        },
    )
    options = MonitoringOptions()
    found = replace(assess(changed, data, options), id=7)

    html = write_report(found, changed, data, options).html

    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert "script" not in tags
    assert tags.count("svg") == 4
    assert not re.search(r"(src|href)=.(?!#)|url\((?!#)|@import", html)
    for words in (evil, "colour & co", "Performance", "Calibration", "Data quality", "alarm"):
        assert words in page.words


def test_a_report_can_be_written_of_an_empty_window() -> None:
    empty = window(**EMPTY)
    found = run(empty)
    assert found.status == "insufficient"
    html = write_report(found, reference(), empty, MonitoringOptions()).html
    assert "0 predictions have a true label; 50 are needed." in html


def test_bins_of_dates_are_named_by_dates() -> None:
    day = 86_400.0
    days = Column("since", "time", (20_000 * day, 20_010 * day), (), scale=6 * day)
    hours = Column("since", "time", (20_000.5 * day,), (), scale=0.2 * day)

    assert bin_names(days) == ["below 2024-10-04", "2024-10-04 to 2024-10-14", "from 2024-10-14"]
    assert bin_names(hours) == ["below 10-04 12:00", "from 10-04 12:00"]


def test_a_run_is_summed_up_in_a_few_lines() -> None:
    lines = summarise(run(window(cells=LABELLED))).splitlines()
    assert lines[0] == "  status   healthy"
    assert lines[1].endswith("200 predictions look like the 160 rows of the training snapshot.")
    assert "  window   200 predictions, 200 with a true label, 2026-05-01" in lines[-1]
