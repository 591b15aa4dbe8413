"""When a retraining is called for, as a person may configure it."""

import pytest

from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.retraining.options import RetrainingOptions, require_decidable


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
    raw = {"actions": {"calibration": "retrain"}}

    with pytest.raises(ConfigurationError) as raised:
        parse_configuration(RetrainingOptions, raw, "retraining")

    assert str(raised.value) == (
        "retraining.actions.calibration: unknown key; allowed: performance, drift, data_quality "
        "(found 'retrain')"
    )
