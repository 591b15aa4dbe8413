"""The nodes of the registry: what is measured and confirmed, and what the gates say to it."""

import re
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.registry.nodes import (
    Decision,
    GateOptions,
    LoggedCandidate,
    apply_gates,
    compare_models,
)
from mlops_for_mle.releases.manifest import Manifest, Release, release_name, sha256_of
from tests.pipelines.training.examples import assemble
from tests.releases import IRIS_CONTRACT, iris_rows

SHARES = st.floats(0, 1)
TREE = "sklearn.tree.DecisionTreeClassifier"
MODELS: dict[str, dict[str, Any]] = {
    "good": {"name": "logistic"},
    "without probabilities": {"name": "svc"},
    "tree": {"class_path": TREE},
    "stump": {"class_path": TREE, "parameters": {"max_depth": 1}},
    "useless": {"class_path": TREE, "parameters": {"min_samples_leaf": 100}},
}


@cache
def trained(kind: str) -> SimpleNamespace:
    return assemble(iris_rows(), IRIS_CONTRACT, estimator=MODELS[kind], calibrate=False)


def logged(trained: SimpleNamespace, run_id: str = "run2", **changes: Any) -> LoggedCandidate:
    description = trained.description.model_copy(update=changes)
    rows = trained.examples.rows[trained.examples.is_validation]
    return LoggedCandidate(run_id, "models:/m-2", description, trained.predictor.model, rows)


def candidate(kind: str = "good", run_id: str = "run2", **changes: Any) -> LoggedCandidate:
    return logged(trained(kind), run_id, **changes)


def champion(kind: str = "good", **changes: Any) -> Release:
    given = candidate(kind)
    facts = {"version": 1, "run_id": "run1", "release": release_name("iris", 1, "run1")}
    facts |= dict(given.description) | changes
    manifest = Manifest.model_validate(facts | {"created_at": "2026-01-01T00:00:00Z"})
    return Release(manifest=manifest, model=given.model)


def gates(**changes: Any) -> GateOptions:
    return GateOptions.model_validate({"metric": "accuracy", "threshold": 0.9} | changes)


def decision(given: LoggedCandidate, incumbent: Release | None = None, **changes: Any) -> Decision:
    return compare_models(given, incumbent, gates(**changes))


def figures(found: Decision) -> list[float]:
    """Of candidate and champion, as the reasons tell them."""
    return [float(re.search(r"0\.\d+", reason)[0]) for reason in found.reasons[:2]]


@pytest.mark.parametrize("recorded", [0.5, float("nan")])
def test_a_model_that_measures_otherwise_than_recorded_is_refused(recorded):
    metrics = candidate().description.metrics | {"validation_accuracy": recorded}

    with pytest.raises(UserError, match=r"run run2: loaded back, its validation accuracy is 0\.92"):
        compare_models(candidate(metrics=metrics), None, gates())


def test_only_what_has_learned_something_becomes_the_first_champion():
    good, useless = decision(candidate()), decision(candidate("useless"), threshold=None)

    assert (good.promote, useless.promote) == (True, False)
    assert useless.reasons == (
        "validation accuracy 0.3333, no threshold is set",
        "there is no champion to compare with",
        "no better than a constant answer, 0.3333",
    )
    again = decision(candidate(run_id="run1"), champion())
    assert (again.promote, again.reasons[1]) == (True, "it is the champion already")


@pytest.mark.parametrize(
    ("kind", "is_promoted", "metric"), [("good", True, "accuracy"), ("stump", False, "brier")]
)
def test_few_rows_reject_only_what_chance_has_not_made_worse(kind, is_promoted, metric):
    # One of 39 rows is answered otherwise than by the champion, or a third of them.
    options = {"threshold": None, "tolerance": 0.01, "metric": metric}

    found = decision(candidate(kind), champion("tree"), **options)

    value, rival = figures(found)
    assert abs(value - rival) > 0.01
    assert found.promote == is_promoted
    why = ", which may be chance" * is_promoted
    assert f"worse by more than the tolerance 0.0100{why} (on rows drawn" in found.reasons[1]


SIGNS = {"accuracy": 1, "r2": 1, "brier": -1, "rmse": -1}


@pytest.mark.parametrize("metric", SIGNS)
@given(st.tuples(SHARES, SHARES, SHARES), SHARES | st.none(), SHARES)
def test_a_decision_follows_from_threshold_champion_and_baseline(
    metric, figures, threshold, tolerance
):
    sign = SIGNS[metric]
    names = ("candidate", "champion", "baseline")
    measured = {of: {metric: figure} for of, figure in zip(names, figures, strict=True)}
    options = gates(metric=metric, threshold=threshold, tolerance=tolerance)

    found = apply_gates(measured, options, champion_version=1)

    value, rival, constant = figures
    passed = [
        threshold is None or sign * value >= sign * threshold,
        sign * (value - rival) >= -tolerance - 1e-6 * rival,
        sign * (value - constant) > 1e-6 * constant,
    ]
    failing = ("misses", "worse by more", "no better")
    assert [*found.values()] == passed
    for is_passed, words, reason in zip(passed, failing, found, strict=True):
        assert is_passed == (words not in reason)


def test_a_metric_that_is_not_measured_is_refused_with_those_that_are():
    unsure = champion("without probabilities")
    with pytest.raises(ConfigurationError, match=r"brier was not .* of the champion, .* acc"):
        decision(candidate(), unsure, metric="brier")
    with pytest.raises(ConfigurationError, match=r"rmse was not .* of the candidate, .* acc"):
        decision(candidate(), metric="rmse")


def of_features(*names: str) -> Contract:
    features: dict[str, Any] = {name: {} for name in names}
    return Contract.model_validate(IRIS_CONTRACT.model_dump() | {"features": features})


def test_a_champion_that_lacks_a_feature_is_compared_by_the_columns_that_it_knows():
    older = of_features("petal_length", "sepal_length")
    before = assemble(iris_rows(), older, estimator=MODELS["good"], calibrate=False)
    digest = {"model_sha256": sha256_of(before.predictor.model)}
    manifest = champion(contract=older).manifest.model_copy(update=digest)
    incumbent = Release(manifest=manifest, model=before.predictor.model)

    found = compare_models(candidate(), incumbent, gates())

    assert "champion version 1 has 0.9" in found.reasons[1]


def test_a_champion_that_takes_no_missing_value_has_a_constant_answer_for_one():
    raw, rows = IRIS_CONTRACT.model_dump(), iris_rows()
    features = raw["features"] | {"petal_width": {"missing": "median"}}
    rows.loc[::5, "petal_width"] = None
    loosened = Contract.model_validate(raw | {"features": features})
    learned = assemble(rows, loosened, estimator=MODELS["good"], calibrate=False)

    found = compare_models(logged(learned), champion(), gates(threshold=None))

    assert found.promote
    value, rival = figures(found)
    assert 0.7 < rival < value


def test_a_champion_of_other_columns_cannot_be_compared():
    fewer = IRIS_CONTRACT.model_dump()
    fewer["target"]["classes"] = fewer["target"]["classes"][:2]
    for other in (of_features("length", "width"), Contract.model_validate(fewer)):
        with pytest.raises(UserError, match=r"other columns or classes, .* new contract\.name"):
            compare_models(candidate(), champion(contract=other), gates())
