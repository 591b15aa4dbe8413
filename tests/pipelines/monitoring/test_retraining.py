"""Whether to retrain, on which rows, and what becomes of the decision."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, NotCalledForError
from mlops_for_mle.pipelines.monitoring.options import (
    MonitoringOptions,
    RetrainingOptions,
    require_decidable,
)
from mlops_for_mle.pipelines.monitoring.record import MonitoringRun, RetrainingDecision
from mlops_for_mle.pipelines.monitoring.retraining import (
    History,
    TrainingRows,
    Verdict,
    WindowFinding,
    admit_champion,
    choose_rows,
    conclude_decision,
    decide_on_retraining,
    require_open,
)
from tests.new_releases import IRIS_CONTRACT, iris_release
from tests.pipelines.monitoring.examples import LINE
from tests.pipelines.monitoring.traffic import iris_source

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
OPEN = RetrainingDecision(
    contract="iris",
    monitoring_run_id=99,
    decision="retrain",
    reasons=("performance: alarm.",),
    evidence_from=BEGIN,
    id=7,
    created_at=BEGIN + timedelta(hours=9),
)


def at(hour: float) -> datetime:
    return BEGIN + timedelta(hours=hour)


def finding(number: int, *alarms: str) -> WindowFinding:
    """The window of an hour, numbered."""
    return WindowFinding(number, at(number), at(number + 0.9), frozenset(alarms))  # type: ignore[arg-type]


def decision(
    *oldest_first: WindowFinding, labelled: Sequence[WindowFinding] | None = None, **options: Any
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
        labelled_from=None,
        labelled_to=None,
        status="healthy",
        reasons=(),
    )
    windows = tuple(reversed(oldest_first))
    history = History(windows, windows if labelled is None else tuple(labelled))
    retraining = RetrainingOptions.model_validate(options)
    return decide_on_retraining(run, history, retraining)


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


def source(contract: Contract, count: int, name: str) -> TrainingRows:
    line = pd.DataFrame({"width": range(150), "y": range(150)}, dtype=float)
    made = iris_source() if contract is IRIS_CONTRACT else line
    return TrainingRows(name, made.head(count).loc[:, list(contract.columns)])


class Log:
    """A prediction log that has these labelled rows."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows
        self.asked: tuple[Any, ...] = ()

    def labelled_rows(self, contract: Contract, since: datetime | None, most: int) -> pd.DataFrame:
        self.asked = (contract, since, most)
        return self._rows


def chosen(
    labelled: int,
    observations: int = 150,
    contract: Contract = IRIS_CONTRACT,
    least: int | None = 5,
    **options: Any,
) -> TrainingRows:
    log: Any = Log(source(contract, labelled, "labels").rows)
    table = source(contract, observations, "table")
    retraining = RetrainingOptions.model_validate({"rows": options})
    found = choose_rows(OPEN, log, table, contract, retraining, least)
    assert log.asked == (contract, BEGIN, retraining.rows.maximum_labelled)
    return found


def test_enough_labelled_predictions_are_learned_from_alone():
    found = chosen(150, minimum_labelled=100)
    assert found.source == "labelled predictions since 2026-01-01 00:00:00 UTC"
    assert len(found.rows) == 150


def test_the_table_joins_in_where_labels_are_few_or_it_is_wanted():
    assert len(chosen(150, minimum_labelled=151).rows) == 300
    found = chosen(150, minimum_labelled=100, include="all")
    assert len(found.rows) == 300
    assert found.source.startswith("table and labelled predictions since")
    assert chosen(10, 0).rows.equals(iris_source().head(10))


def test_a_regression_needs_no_classes():
    assert len(chosen(30, contract=LINE, minimum_labelled=30).rows) == 30


def test_the_table_joins_in_where_a_class_has_few_distinct_labelled_rows():
    # Rows 100 and 101 are the first of the third class.
    assert len(chosen(102, minimum_labelled=100).rows) == 252
    assert len(chosen(102, minimum_labelled=100, least=None).rows) == 102
    assert len(chosen(101, minimum_labelled=100, least=None).rows) == 251


def test_the_union_keeps_whole_numbers_whole():
    assert pd.api.types.is_integer_dtype(chosen(10).rows[IRIS_CONTRACT.target.column])


def test_an_open_decision_is_acted_on():
    assert require_open(OPEN, None) is OPEN
    assert require_open(OPEN, at(8)) is OPEN


@pytest.mark.parametrize(
    ("decision", "changed_at", "said"),
    [
        (None, None, "Nothing was monitored yet"),
        (replace(OPEN, decision="investigate"), None, "decision 7 says investigate. performance"),
        (
            replace(OPEN, acted_at=at(10), outcome="rejected"),
            None,
            "was acted on at 2026-01-01 10:",
        ),
        (OPEN, at(9.1), "was made before another release was put in service"),
    ],
)
def test_what_is_not_called_for_says_why(decision, changed_at, said):
    with pytest.raises(NotCalledForError, match=r"`kedro run` trains anyway\.$") as raised:
        require_open(decision, changed_at)
    assert said in str(raised.value)


def test_only_a_promoted_candidate_is_deployed_and_only_where_nobody_else_has_deployed():
    champion = iris_release(1)
    promoted, rejected = Verdict(1, True, ""), Verdict(2, False, "")

    assert admit_champion(OPEN, promoted, at(8), champion) is champion
    assert admit_champion(OPEN, promoted, None, champion) is champion
    assert admit_champion(OPEN, rejected, at(8), champion) == ()
    assert admit_champion(OPEN, promoted, at(9.5), champion) == ()


def test_a_decision_is_concluded_with_what_the_gates_said_and_whether_it_is_served():
    rows = [("iris", 1, "deploy"), ("wine", 3, "deploy"), ("iris", 2, "load_failed")]
    table = pd.DataFrame(rows, columns=["contract", "model_version", "event"])

    def outcome(version: int, is_promoted: bool) -> str | None:
        concluded = conclude_decision(OPEN, Verdict(version, is_promoted, "because"), table)
        assert replace(concluded, outcome=None) == OPEN
        return concluded.outcome

    assert outcome(1, True) == "version 1 promoted: because"
    assert outcome(3, False) == "version 3 rejected: because"
    for version in (2, 3):
        undone = "; not deployed, since another release was put in service meanwhile"
        assert outcome(version, True) == f"version {version} promoted: because{undone}"


def require(window: dict[str, object], **retraining: object) -> None:
    require_decidable(
        MonitoringOptions.model_validate({"window": window}),
        RetrainingOptions.model_validate(retraining),
    )


def test_windows_that_all_overlap_are_refused_where_several_are_needed():
    with pytest.raises(ConfigurationError) as raised:
        require({"rows": None}, alarms=3)

    assert str(raised.value) == (
        "monitoring.window: rows and hours are both null, so every window holds all predictions, "
        "and windows that overlap count once: retraining.alarms (found 3) can never be reached; "
        "set rows or hours, or retraining.alarms: 1"
    )


@pytest.mark.parametrize("window", [{}, {"rows": 200}, {"rows": None, "hours": 24}])
def test_windows_that_move_on_are_taken(window: dict[str, object]):
    require(window)


def test_one_window_of_all_predictions_is_enough_where_one_alarm_is():
    require({"rows": None}, alarms=1)


def test_calibration_calls_for_nothing_since_it_is_never_an_alarm():
    with pytest.raises(ValidationError, match=r"actions\.calibration"):
        RetrainingOptions.model_validate({"actions": {"calibration": "retrain"}})


def test_the_shipped_parameters_are_the_defaults():
    import yaml

    from mlops_for_mle.paths import project_path

    path = project_path() / "conf/base/parameters.yml"
    parameters = yaml.safe_load(path.read_text("utf-8").replace("${", "$ {"))
    assert MonitoringOptions.model_validate(parameters["monitoring"]) == MonitoringOptions()
    assert RetrainingOptions.model_validate(parameters["retraining"]) == RetrainingOptions()
