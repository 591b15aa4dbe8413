from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from mlops_for_mle.errors import UserError
from mlops_for_mle.monitoring_run import MonitoringRun
from mlops_for_mle.pipelines.retraining.nodes import choose_rows, decide
from mlops_for_mle.pipelines.retraining.options import RetrainingOptions
from mlops_for_mle.pipelines.training.options import DataCheckOptions
from mlops_for_mle.records import Window
from mlops_for_mle.records_retraining import (
    MonitoringHistory,
    RetrainingDecision,
    WindowFinding,
)
from tests.unit.conftest import IRIS_CONTRACT, LINE_CONTRACT, iris_rows, line_rows

CHECKS = DataCheckOptions()
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def at(hour: float) -> datetime:
    return BEGIN + timedelta(hours=hour)


def finding(number: int, *alarms: str) -> WindowFinding:
    """The window of an hour, numbered."""
    return WindowFinding(number, at(number), at(number + 0.9), frozenset(alarms))  # type: ignore[arg-type]


def decision(
    *oldest_first: WindowFinding,
    labelled: tuple[WindowFinding, ...] | None = None,
    **options: object,
) -> RetrainingDecision:
    """Decide on windows of predictions, all labelled unless told otherwise."""
    run = MonitoringRun(
        id=99,
        contract="iris",
        release="iris-v1",
        model_version=1,
        window_from=None,
        window_to=None,
        prediction_count=0,
        labelled_count=0,
        status="healthy",
        reasons=(),
    )
    windows = tuple(reversed(oldest_first))
    history = MonitoringHistory(
        "iris", "iris-v1", windows, windows if labelled is None else labelled
    )
    return decide(run, history, RetrainingOptions.model_validate(options))


def test_without_alarms_there_is_nothing_to_do():
    found = decision(finding(1), finding(2))

    assert (found.decision, found.monitoring_run_id) == ("none", 99)
    assert found.reasons == ("iris-v1: no alarm in the last 2 windows.",)
    assert found.evidence_from is None


def test_one_bad_window_changes_nothing_and_is_told():
    found = decision(finding(1), finding(2, "performance"), finding(3))

    assert found.decision == "none"
    assert found.reasons == (
        "performance: alarm in 1 of the last 3 labelled windows (runs 2); 2 in 3 call for retrain.",
    )


def test_enough_bad_windows_call_for_what_the_area_says_since_the_first_of_them():
    found = decision(finding(1, "performance"), finding(2), finding(3, "performance"))

    assert found.decision == "retrain"
    assert found.evidence_from == at(1)


def test_labels_that_are_the_newest_in_several_windows_count_once():
    windows = [finding(number, "performance") for number in (3, 4, 5)]

    found = decision(*windows, labelled=(finding(1, "performance"),))

    assert found.decision == "none"
    assert found.reasons[0].startswith("performance: alarm in 1 of the last 1 labelled windows")


def test_a_retraining_on_live_performance_learns_since_the_first_of_its_labels():
    windows = [finding(number) for number in (3, 4, 5)]
    labels = (finding(2, "performance"), finding(1, "performance"))

    found = decision(*windows, labelled=labels)

    assert found.decision == "retrain"
    assert found.evidence_from == at(1)


def test_old_alarms_are_forgotten():
    windows = (finding(1, "performance"), finding(2, "performance"), finding(3), finding(4))
    assert decision(*windows, windows=3).decision == "none"


def test_the_most_urgent_action_wins_whatever_the_order_of_areas():
    windows = [finding(number, "drift", "performance", "data_quality") for number in (1, 2)]

    assert decision(*windows).decision == "retrain"
    assert decision(*windows, actions={"performance": "none"}).decision == "investigate"
    assert decision(*windows, actions={"drift": "retrain"}).evidence_from == at(1)


def rows(contract, count, source):
    made = iris_rows() if contract is IRIS_CONTRACT else line_rows()
    return Window(source, made.head(count).loc[:, list(contract.columns)])


def chosen(
    labelled: int,
    observations: int = 150,
    contract=IRIS_CONTRACT,
    checks=CHECKS,
    **options,
) -> Window:
    return choose_rows(
        rows(contract, labelled, "labels"),
        rows(contract, observations, "table"),
        contract,
        RetrainingOptions.model_validate({"rows": options}),
        checks,
    )


def test_enough_labelled_predictions_are_learned_from_alone():
    found = chosen(150, minimum_labelled=100)
    assert (found.source, len(found.rows)) == ("labels", 150)


def test_the_table_joins_in_where_labels_are_few_or_a_class_is_missing_or_it_is_wanted():
    assert len(chosen(150, minimum_labelled=151).rows) == 300
    assert len(chosen(100, minimum_labelled=100).rows) == 250
    assert len(chosen(150, minimum_labelled=100, include="all").rows) == 300
    assert chosen(150, include="all").source == "table and labels"


def test_a_regression_needs_no_classes():
    found = chosen(30, contract=LINE_CONTRACT, minimum_labelled=30)
    assert found.source == "labels"


def test_without_any_row_it_says_where_rows_come_from():
    with pytest.raises(UserError, match="Neither labels nor table has rows to learn from"):
        chosen(0, 0)


def test_the_table_joins_in_where_a_class_has_few_distinct_labelled_rows():
    # Rows 100 and 101 are the first of the third class.
    assert chosen(102, minimum_labelled=100).source == "table and labels"
    few = DataCheckOptions(minimum_rows_per_class=None)
    assert chosen(102, minimum_labelled=100, checks=few).source == "labels"
    assert chosen(101, minimum_labelled=100, checks=few).source == "table and labels"


def test_too_few_rows_of_a_class_are_named_before_anything_is_trained():
    with pytest.raises(UserError) as raised:
        chosen(102, 103, minimum_labelled=100)

    assert str(raised.value) == (
        "The retraining waits for labels: table and labels have too few rows of a class (class "
        "virginica has 3 distinct rows of the 5 needed). Send labels to POST /feedback, ingest "
        "observations, or lower data_checks.minimum_rows_per_class."
    )


def test_the_union_keeps_whole_numbers_whole():
    assert pd.api.types.is_integer_dtype(chosen(10).rows[IRIS_CONTRACT.target.column])
