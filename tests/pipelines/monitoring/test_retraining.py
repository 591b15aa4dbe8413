"""Whether to retrain, on which rows, and what becomes of the decision."""

from dataclasses import replace

import pandas as pd
import pytest
from pydantic import ValidationError

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import NothingToDoError
from mlops_for_mle.pipelines.monitoring.options import RetrainingOptions
from mlops_for_mle.pipelines.monitoring.retraining import (
    WindowFinding,
    admit_champion,
    choose_rows,
    conclude_decision,
    decide_on_retraining,
    require_open,
)
from mlops_for_mle.releases.manifest import Champion, Deployment
from tests.pipelines.monitoring.examples import BEGIN, DECISION, LINE, at, run, window
from tests.releases import IRIS_CONTRACT, changed, iris_release, iris_rows

OPEN = replace(DECISION, evidence_from=BEGIN, run_id="own", created_at=at(9))


def test_estimates_alone_call_for_nothing():
    windows = [WindowFinding(number, at(3), ["estimate"]) for number in (2, 1)]
    history = {"windows": windows, "labelled windows": windows}

    found = decide_on_retraining(replace(run(window()), id=99), history, RetrainingOptions())

    assert found.decision == "none"
    assert found.reasons == ["iris-v1-run1: no alarm in the last 2 windows."]


def test_before_anything_was_monitored_nothing_is_called_for():
    said = r"nothing was monitored yet.* `kedro run` trains anyway\.$"
    with pytest.raises(NothingToDoError, match=said):
        require_open(None, None)


@pytest.mark.parametrize(
    ("run_id", "said"),
    [("own", "decision 7 has had iris-v1 deployed"), ("any", "another release was put in service")],
)
def test_what_was_deployed_meanwhile_is_told_from_what_a_killed_run_has_deployed(run_id, said):
    with pytest.raises(NothingToDoError, match=said):
        require_open(replace(OPEN, decision="retrain"), replace(served(9.5), run_id=run_id))


def source(contract: Contract, count: int) -> pd.DataFrame:
    line = pd.DataFrame({"width": range(150), "y": range(150)}, dtype=float)
    made = iris_rows() if contract is IRIS_CONTRACT else line
    rows = made.head(count).loc[:, list(contract.columns)]
    return rows.assign(timestamp=pd.date_range("2026-01-01", periods=count))


@pytest.mark.parametrize(
    ("labelled", "options", "count"),
    [
        (150, {"minimum_labelled": 151}, 300),
        # Rows 100 and 101 are the first of the third class.
        (102, {}, 252),
        (30, {"contract": LINE, "minimum_labelled": 30}, 30),
        # No label came since the contract got a feature.
        (30, {"contract": LINE, "minimum_labelled": 30, "values": {"width": None}}, 180),
    ],
)
def test_the_table_joins_in_where_labels_are_few(labelled, options, count):
    given = {"contract": IRIS_CONTRACT, "minimum_labelled": 100, "values": {}} | options
    contract, values = given.pop("contract"), given.pop("values")
    table = source(contract, 150)
    table.attrs["source"] = "table"
    rows = source(contract, labelled).assign(**values)

    found = choose_rows(OPEN, rows, table, contract, RetrainingOptions.model_validate(given), 5)

    assert len(found) == count
    joined = "table and " if count > labelled else ""
    assert found.attrs["source"] == f"{joined}labelled predictions since 2026-01-01 00:00:00 UTC"
    assert found["timestamp"].notna().all(), "by which rows may be split"


def served(hour: float) -> Deployment:
    """What somebody has put in service."""
    return Deployment(1, "iris", "rollback", "iris-v1", 1, "any", "bad", "ada", at(hour))


def trained_by(run_id: str, deployment: Deployment | None = None) -> Champion:
    """The champion that a run has trained."""
    return Champion(**dict(changed(iris_release(2), run_id=run_id)), deployment=deployment)


def test_only_the_own_champion_is_deployed_and_only_where_nobody_else_has_deployed():
    own = trained_by("own", served(8))
    assert admit_champion(OPEN, own) is own
    assert admit_champion(OPEN, trained_by("own")) == trained_by("own")
    for other in (trained_by("any", served(8)), trained_by("own", served(9.5)), None):
        assert admit_champion(OPEN, other) == ()


@pytest.mark.parametrize(
    ("champion", "run_id", "outcome"),
    [
        # Another one became champion after that.
        (trained_by("any"), "own", "version 2 was promoted"),
        (trained_by("own"), "any", "version 2 was promoted; not deployed, since another release"),
        # A person has chosen it; what the gates have said is not known.
        (trained_by("any", served(9.5)), "any", "nothing was deployed, since another release"),
        (trained_by("any", served(8)), "any", "the candidate was rejected"),
    ],
)
def test_a_decision_is_concluded_with_what_has_become_of_the_candidate(champion, run_id, outcome):
    table = pd.DataFrame({"run_id": [run_id], "model_version": 2})
    concluded = conclude_decision(OPEN, champion, table)
    assert replace(concluded, outcome=None) == OPEN
    assert concluded.outcome.startswith(outcome)


def test_more_alarms_than_windows_are_refused():
    with pytest.raises(ValidationError, match="alarms 4 must not be above windows 3"):
        RetrainingOptions(alarms=4)
