from dataclasses import replace

import pytest

from mlops_for_mle.pipelines.monitoring.checks import Check
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.quality import check_quality
from mlops_for_mle.records_monitoring import (
    CategoryColumn,
    ColumnCounts,
    ReferenceColumn,
    TableCounts,
)
from tests.unit.pipelines.monitoring.examples import reference, window


def options(**quality: object) -> MonitoringOptions:
    return MonitoringOptions.model_validate({"quality": quality})


def checks(found) -> dict[tuple[str, str], Check]:
    return {(one.subject, one.metric): one for one in found.checks}


@pytest.mark.parametrize(
    ("counts", "metric", "said"),
    [
        ({"missing": 20}, "missing_fraction", "10 % of the values of width are missing"),
        ({"wrong_type": 1}, "wrong_type_fraction", "0.5 % of the values of width have the wrong"),
        ({"out_of_range": 3}, "out_of_range_fraction", "out of the contract's range (at most 1 %)"),
    ],
)
def test_bad_values_of_a_feature_are_an_alarm_beyond_their_limit(counts, metric, said) -> None:
    bad = window(features={"width": ColumnCounts((45, 45, 45, 45), **counts)})

    found = checks(check_quality(reference(), bad, MonitoringOptions()))

    assert {key for key, one in found.items() if one.severity == "alarm"} == {("width", metric)}
    assert said in found["width", metric].message
    lenient = options(maximum_missing=None, maximum_wrong_type=0.1, maximum_out_of_range=0.02)
    found = checks(check_quality(reference(), bad, lenient))
    assert {one.severity for one in found.values()} == {"none"}


def test_gaps_that_the_reference_has_too_are_no_alarm() -> None:
    column = replace(reference().features[0], counts=(20, 20, 20, 20))
    gappy = reference(features=(column,), row_count=100)
    limits = options(maximum_missing=0.05)

    def severity(missing: int) -> str:
        seen = window(features={"width": ColumnCounts((40, 40, 40, 40), missing=missing)})
        return checks(check_quality(gappy, seen, limits))["width", "missing_fraction"].severity

    assert severity(missing=48) == "none"
    assert severity(missing=52) == "alarm"


def test_unknown_categories_are_counted_for_categories_only() -> None:
    column = ReferenceColumn(CategoryColumn("width", ("a", "b")), (80, 80))
    bad = window(features={"width": ColumnCounts((90, 90), unknown=20)})

    found = checks(check_quality(reference(features=(column,)), bad, MonitoringOptions()))

    assert found["width", "unknown_fraction"].severity == "alarm"
    assert ("width", "out_of_range_fraction") not in found
    clean = checks(check_quality(reference(), window(), MonitoringOptions()))
    assert ("width", "unknown_fraction") not in clean


def test_a_few_rows_are_no_reason_for_an_alarm() -> None:
    few = window(answers=(5, 4), features={"width": ColumnCounts((2, 2, 2, 2), missing=1)})
    found = check_quality(reference(), few, MonitoringOptions())
    assert {one.severity for one in found.checks} == {"none"}
    assert checks(found)["width", "missing_fraction"].value == pytest.approx(1 / 9)


def test_old_few_and_repeated_rows_are_a_warning_where_a_limit_is_set() -> None:
    strict = options(maximum_age_hours=1, minimum_rows_per_hour=500, maximum_duplicates=0.1)
    stale = window(age_seconds=7300.0, duplicates=100)

    found = checks(check_quality(reference(), stale, strict))

    assert {key for key, one in found.items() if one.severity == "warning"} == {
        ("rows", "age_seconds"),
        ("rows", "rows_per_hour"),
        ("rows", "duplicate_fraction"),
    }
    assert found["rows", "rows_per_hour"].value == pytest.approx(199 / 2)
    assert "2.03 hours old (at most 1)" in found["rows", "age_seconds"].message
    relaxed = checks(check_quality(reference(), stale, MonitoringOptions()))
    assert {one.severity for one in relaxed.values()} == {"none"}


def test_bad_values_in_the_table_are_a_warning_that_names_the_worst_column() -> None:
    table = TableCounts(
        table="small_data",
        row_count=200,
        new_rows=40,
        age_seconds=5.0,
        duplicates=3,
        missing={"width": 0, "kind": 0},
        out_of_range={"width": 1, "kind": 30},
    )

    found = checks(check_quality(reference(), window(table=table), MonitoringOptions()))

    assert found["table", "out_of_range_fraction"].severity == "warning"
    assert "column kind of table small_data" in found["table", "out_of_range_fraction"].message
    assert found["table", "rows_since_training"].value == 40
    assert found["table", "missing_fraction"].severity == "none"


def test_a_window_without_rows_can_be_looked_at() -> None:
    empty = window(
        answers=(0, 0),
        features={"width": ColumnCounts((0, 0, 0, 0))},
        window_from=None,
        window_to=None,
        age_seconds=None,
    )
    found = checks(check_quality(reference(), empty, options(maximum_age_hours=1)))
    assert found["rows", "row_count"].value == 0
    assert found["width", "missing_fraction"].value is None
    assert {one.severity for one in found.values()} == {"none"}
