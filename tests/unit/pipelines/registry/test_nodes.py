from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.metrics import measure
from mlops_for_mle.pipelines.registry.nodes import confirm_metrics, decide
from mlops_for_mle.pipelines.registry.options import GateOptions
from mlops_for_mle.pipelines.training.estimator import build_estimator, fit
from mlops_for_mle.records import Decision, Incumbent, ModelPassport, ModelVersion
from mlops_for_mle.release import Example, Parity, SnapshotFacts
from tests.unit.conftest import IRIS_CONTRACT, iris_rows, training_options

ROWS = iris_rows()
SHARES = st.floats(0, 1)
NO_CHAMPION = Incumbent(None)


@cache
def fitted(class_path: str) -> Any:
    estimator = training_options(class_path).estimator
    return fit(build_estimator(estimator, IRIS_CONTRACT, 1), ROWS, IRIS_CONTRACT)


@cache
def measured(model: Any) -> dict[str, float]:
    return measure(model, ROWS, IRIS_CONTRACT)


def model_version(
    number: int = 1, good: bool = True, contract: Contract = IRIS_CONTRACT, **metrics: float
) -> ModelVersion:
    """A version whose model has learned iris, or guesses the most frequent class."""
    class_path = "sklearn.naive_bayes.GaussianNB" if good else "sklearn.dummy.DummyClassifier"
    model = fitted(class_path)
    found = {f"validation_{name}": value for name, value in measured(model).items()}
    passport = ModelPassport(
        contract=contract,
        estimator=class_path,
        precision="float32",
        onnx_sha256="0" * 64,
        metrics=found | metrics,
        snapshot=SnapshotFacts(source="t", sha256="0" * 64, watermark=None, row_count=150),
        parity=Parity(point_count=1, largest_difference=0),
        example=Example(rows=((1, 2, 3, 4),), predictions=(0,)),
    )
    return ModelVersion("iris", number, f"run-{number}", model, passport, ROWS)


def gates(**changes: Any) -> GateOptions:
    return GateOptions.model_validate({"metric": "accuracy", "threshold": 0.9} | changes)


def decision(version: ModelVersion, incumbent: Incumbent = NO_CHAMPION, **changes: Any) -> Decision:
    return decide(version, measured(version.model), incumbent, IRIS_CONTRACT, gates(**changes))


def test_a_model_that_measures_as_recorded_is_confirmed() -> None:
    version = model_version()

    found, metrics = confirm_metrics(version, IRIS_CONTRACT)

    assert found is version
    assert metrics == measured(version.model)


@pytest.mark.parametrize("recorded", [0.5, float("nan")])
def test_a_model_that_measures_otherwise_than_recorded_is_refused(recorded: float) -> None:
    with pytest.raises(UserError, match=r"Version 1 of iris: loaded back, its validation accuracy"):
        confirm_metrics(model_version(validation_accuracy=recorded), IRIS_CONTRACT)


def test_the_first_good_candidate_becomes_champion() -> None:
    found = decision(model_version())

    assert found.promote
    assert found.reasons[-1] == "there is no champion to compare with"
    assert (found.champion_version, found.champion_metrics) == (None, None)


def test_a_candidate_below_the_threshold_is_rejected_with_the_reason() -> None:
    found = decision(model_version(good=False))

    assert not found.promote
    assert found.reasons[0] == "validation accuracy 0.3333 misses the threshold 0.9000"


def test_a_candidate_that_is_worse_than_the_champion_is_rejected_with_the_reason() -> None:
    found = decision(model_version(2, good=False), Incumbent(model_version(1)), threshold=0.1)

    assert not found.promote
    assert found.champion_version == 1
    assert found.reasons[1] == (
        "champion version 1 has 0.9600 on the same rows: worse by more than the tolerance 0.0000"
    )


def test_metrics_of_any_size_are_told() -> None:
    metrics = {"rmse": 2.5e9}
    options = gates(metric="rmse", threshold=2.4e-7, tolerance=0.0)

    found = decide(model_version(), metrics, NO_CHAMPION, IRIS_CONTRACT, options)

    assert found.reasons[0] == "validation rmse 2.5e+09 misses the threshold 2.4e-07"


def test_a_candidate_as_good_as_the_champion_takes_its_place() -> None:
    assert decision(model_version(2), Incumbent(model_version(1))).promote


def test_the_champion_as_candidate_stays_champion() -> None:
    found = decision(model_version(1), Incumbent(model_version(1)))

    assert found.promote
    assert found.reasons[1] == "it is the champion already"


@settings(max_examples=15)
@given(
    candidate=SHARES,
    threshold=SHARES,
    tolerance=SHARES,
    metric=st.sampled_from(["accuracy", "brier"]),
)
def test_a_decision_follows_from_threshold_and_tolerance(
    candidate: float, threshold: float, tolerance: float, metric: str
) -> None:
    champion = model_version(1, good=False)
    rival = measured(champion.model)[metric]
    sign = 1 if metric == "accuracy" else -1
    options = gates(threshold=threshold, tolerance=tolerance, metric=metric)

    found = decide(
        model_version(2, good=False),
        {metric: candidate},
        Incumbent(champion),
        IRIS_CONTRACT,
        options,
    )

    reached = sign * candidate >= sign * threshold
    kept_up = sign * (candidate - rival) >= -tolerance - 1e-9
    assert found.promote == (reached and kept_up)
    assert len(found.reasons) == 2


def test_a_metric_that_is_not_measured_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        decision(model_version(), metric="rmse")

    assert str(caught.value) == (
        "gates.metric: expected one of accuracy, balanced_accuracy, macro_f1, log_loss, brier, "
        "roc_auc, which were measured on the validation rows of this model (found 'rmse')"
    )


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"metric": "beauty"}, "metric 'beauty' is unknown; allowed: accuracy, balanced_accuracy"),
        ({"metric": "rmse", "greater_is_better": True}, "of rmse smaller is better"),
        ({"metric": "r2", "greater_is_better": False}, "of r2 greater is better"),
    ],
)
def test_gates_know_every_metric_and_its_direction(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(GateOptions, raw, "gates")

    assert message in str(caught.value)


def test_without_a_threshold_only_the_champion_is_to_be_reached() -> None:
    found = decision(model_version(good=False), threshold=None)

    assert found.promote
    assert found.reasons[0] == "validation accuracy 0.3333, no threshold is set"


def test_a_champion_of_other_columns_cannot_be_compared() -> None:
    raw = IRIS_CONTRACT.model_dump()
    features = {"length": {}, "width": {}}
    champion = model_version(1, contract=Contract.model_validate(raw | {"features": features}))

    with pytest.raises(UserError, match=r"for other columns or classes \(length, width, target\)"):
        decision(model_version(2), Incumbent(champion))
