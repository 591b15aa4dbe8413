"""The nodes of the registry: what is measured and confirmed, and what the gates say to it."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.registry.nodes import (
    Comparison,
    Decision,
    LoggedCandidate,
    apply_gates,
    compare_models,
)
from mlops_for_mle.pipelines.registry.options import GateOptions
from mlops_for_mle.releases.manifest import Manifest, ModelDescription, Release, release_name
from mlops_for_mle.releases.metrics import ALL_METRICS
from tests.candidates import describe, iris_rows
from tests.mixed import MIXED_REGRESSION, mixed_rows
from tests.releases import IRIS_CONTRACT

ROWS = iris_rows(IRIS_CONTRACT)
SHARES = st.floats(0, 1)


MODELS = {
    "good": GaussianNB(),
    "without probabilities": SVC(),
    "useless": DecisionTreeClassifier(min_samples_leaf=len(ROWS)),
}


def candidate(kind: str = "good", run_id: str = "run2", **changes: Any) -> LoggedCandidate:
    description, graph = described(kind)
    description = description.model_copy(update=changes)
    return LoggedCandidate(run_id, "models:/m-2", description, graph, ROWS)


@cache
def described(kind: str) -> tuple[ModelDescription, bytes]:
    features = ROWS[list(IRIS_CONTRACT.feature_names)].to_numpy()
    model = Pipeline([("model", MODELS[kind])]).fit(features, ROWS["target"])
    return describe(model, IRIS_CONTRACT, ROWS)


def champion(kind: str = "good", contract: Contract = IRIS_CONTRACT) -> Release:
    description, graph = described(kind)
    facts = dict(description) | {"contract": contract, "version": 1, "run_id": "run1"}
    name = release_name("iris", 1, "run1")
    manifest = Manifest(**facts, release=name, created_at="2026-01-01T00:00:00Z")
    return Release(manifest=manifest, model=graph)


def gates(**changes: Any) -> GateOptions:
    return GateOptions.model_validate({"metric": "accuracy", "threshold": 0.9} | changes)


def decision(given: LoggedCandidate, incumbent: Release | None = None, **changes: Any) -> Decision:
    options = gates(**changes)
    return apply_gates(compare_models(given, incumbent, options), options)


def test_candidate_champion_and_constant_answer_are_measured_on_the_same_rows() -> None:
    found = compare_models(candidate(), champion("without probabilities"), gates())

    assert (found.name, found.run_id, found.champion_version) == ("iris", "run2", 1)
    assert found.metrics["candidate"]["accuracy"] == pytest.approx(0.96)
    assert found.metrics["champion"].keys() == {"accuracy", "balanced_accuracy", "macro_f1"}
    assert found.metrics["baseline"]["accuracy"] == pytest.approx(1 / 3)
    for name, value in found.metrics["candidate"].items():
        assert candidate().description.metrics[f"validation_{name}"] == pytest.approx(value)


@pytest.mark.parametrize("recorded", [0.5, float("nan"), None])
def test_a_model_that_measures_otherwise_than_recorded_is_refused(recorded: float | None) -> None:
    metrics = dict(candidate().description.metrics)
    del metrics["validation_accuracy"]
    if recorded is not None:
        metrics["validation_accuracy"] = recorded

    with pytest.raises(UserError, match=r"run run2: loaded back, its validation accuracy is 0\.96"):
        compare_models(candidate(metrics=metrics), None, gates())


def test_the_first_good_candidate_becomes_champion_with_a_reason_for_each_gate() -> None:
    found = decision(candidate())

    assert found.promote
    assert found.reasons == (
        "validation accuracy 0.9600 meets the threshold 0.9000",
        "there is no champion to compare with",
        "better than a constant answer, 0.3333",
    )
    assert found.champion_version is None


def test_a_candidate_that_has_learned_nothing_is_rejected_even_without_a_threshold() -> None:
    found = decision(candidate("useless"), threshold=None)

    assert not found.promote
    assert found.reasons == (
        "validation accuracy 0.3333, no threshold is set",
        "there is no champion to compare with",
        "no better than a constant answer, 0.3333",
    )


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
def test_a_number_has_to_be_told_better_than_by_the_mean(metric: str) -> None:
    rows = mixed_rows(300)
    price = Contract.model_validate(
        MIXED_REGRESSION.model_dump() | {"features": {"월 요금": {}, "Usage (GB)": {}}}
    )
    rows = rows.dropna(subset=list(price.features), ignore_index=True)
    features, truth = rows[list(price.features)].to_numpy(np.float64), rows["next bill"]
    good = Pipeline([("model", LinearRegression())]).fit(features, truth)
    useless = Pipeline([("model", LinearRegression())]).fit(features, truth.to_numpy()[::-1])
    options = gates(metric=metric, threshold=None)

    for model, is_promoted in ((good, True), (useless, False)):
        description, graph = describe(model, price, rows)
        given = LoggedCandidate("run", "models:/m-1", description, graph, rows)
        found = apply_gates(compare_models(given, None, options), options)
        assert found.promote == is_promoted, found.reasons
        assert "than a constant answer," in found.reasons[2]


def test_the_champion_as_candidate_stays_champion() -> None:
    found = decision(candidate(run_id="run1"), champion())

    assert found.promote
    assert found.reasons[1] == "it is the champion already"


def test_few_rows_reject_only_what_chance_has_not_made_worse() -> None:
    rows = ROWS.drop_duplicates(list(IRIS_CONTRACT.feature_names)).head(40)

    def decided(wrong: int) -> Decision:
        # A tree that knows every row, and a champion whose answers to some rows are not asked for.
        features = rows[list(IRIS_CONTRACT.feature_names)].to_numpy()
        truth = rows["target"].to_numpy()
        spoiled = np.where(np.arange(len(truth)) < wrong, (truth + 1) % 3, truth)
        tree = DecisionTreeClassifier(random_state=0)
        (of_candidate, graph), (of_champion, known) = (
            describe(Pipeline([("model", tree)]).fit(features, one), IRIS_CONTRACT, rows)
            for one in (spoiled, truth)
        )
        facts = dict(of_champion) | {"version": 1, "run_id": "run1"}
        manifest = Manifest(**facts, release="iris-v1-run1", created_at="2026-01-01T00:00:00Z")
        given = LoggedCandidate("run2", "models:/m-2", of_candidate, graph, rows)
        options = gates(threshold=None, tolerance=0.02)
        incumbent = Release(manifest=manifest, model=known)
        return apply_gates(compare_models(given, incumbent, options), options)

    assert decided(1).promote
    assert "(on rows drawn again it gains from -0.0750 to 0.0000)" in decided(1).reasons[1]
    assert not decided(8).promote


@settings(max_examples=100)
@given(SHARES, SHARES, SHARES, SHARES | st.none(), SHARES, st.sampled_from(["accuracy", "brier"]))
def test_a_decision_follows_from_threshold_champion_and_baseline(
    value: float,
    rival: float,
    constant: float,
    threshold: float | None,
    tolerance: float,
    metric: str,
) -> None:
    sign = 1 if ALL_METRICS[metric] else -1
    figures = {"candidate": value, "champion": rival, "baseline": constant}
    compared = Comparison(
        name="iris",
        run_id="run2",
        model_uri="models:/m-2",
        champion_version=1,
        metrics={of: {metric: figure} for of, figure in figures.items()},
    )

    found = apply_gates(compared, gates(metric=metric, threshold=threshold, tolerance=tolerance))

    passed = [
        threshold is None or sign * value >= sign * threshold,
        sign * (value - rival) >= -tolerance - 1e-6 * rival,
        sign * (value - constant) > 1e-6 * constant,
    ]
    failing = ("misses", "worse by more", "no better")
    assert found.promote == all(passed)
    for is_passed, words, reason in zip(passed, failing, found.reasons, strict=True):
        assert is_passed == (words not in reason)


@pytest.mark.parametrize(
    ("given", "incumbent", "metric", "said"),
    [
        (
            "without probabilities",
            None,
            "log_loss",
            "log_loss was not measured on the validation rows of the candidate, expected is one of "
            "accuracy, balanced_accuracy, macro_f1",
        ),
        ("good", "without probabilities", "brier", "brier was not measured .* of the champion"),
        ("good", None, "rmse", "rmse .* expected is one of .* log_loss, brier, roc_auc"),
    ],
)
def test_a_metric_that_is_not_measured_is_refused_with_those_that_are(
    given: str, incumbent: str | None, metric: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        decision(candidate(given), incumbent and champion(incumbent), metric=metric)


def test_a_champion_of_other_columns_cannot_be_compared() -> None:
    features = {name: {} for name in ("length", "width", "depth", "weight")}
    other = Contract.model_validate(IRIS_CONTRACT.model_dump() | {"features": features})

    with pytest.raises(UserError) as caught:
        compare_models(candidate(), champion(contract=other), gates())

    assert str(caught.value) == (
        "Champion version 1 of iris was trained for other columns or classes (length, width, "
        "depth, weight, target), so it cannot be compared on the same rows. Give the "
        "changed contract a new contract.name."
    )
