"""Why a model answers as it does, by the laws of Shapley values; and what lies outside."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import Encoder
from mlops_for_mle.pipelines.training.onnx import convert
from mlops_for_mle.releases.explain import Explainer, Ranges, training_ranges
from mlops_for_mle.releases.predictor import Predictor
from tests.contract.strategies import CONTRACTS, allowed_values
from tests.releases import contract_of


def numbers(count: int) -> Contract:
    """A regression on so many numbers."""
    return contract_of("n", {f"x{place}": {} for place in range(count)})


def served(model: Any, contract: Contract, *before: Any) -> Predictor:
    return Predictor(convert(make_pipeline(*before, model), contract, "float64"), contract)


def linear(weights: np.ndarray) -> Predictor:
    """Answers with the weighted sum of its features."""
    rows = np.vstack([np.eye(len(weights)), -np.eye(len(weights))])
    model = LinearRegression().fit(rows, rows @ weights)
    return served(model, numbers(len(weights)))


@given(st.data())
def test_contributions_to_any_contract_add_up_to_the_answer(data):
    contract = data.draw(CONTRACTS)
    row = st.tuples(*map(allowed_values, contract.features.values()))
    rows = data.draw(st.lists(row, min_size=4, max_size=12))
    matrix, codes = Encoder(contract)(zip(*rows, strict=True)), contract.target.class_codes
    truth = np.resize(codes or [-3.5, 0.25, 7.0], len(rows))
    forest = ExtraTreesClassifier if codes else ExtraTreesRegressor
    imputer = SimpleImputer(strategy="constant", fill_value=0.0).fit(matrix)
    model = forest(3, random_state=0).fit(imputer.transform(matrix), truth)
    predictor = served(model, contract, imputer)

    found = Explainer(predictor, rows[1:]).explain(matrix[0])

    answers = predictor.predict(matrix)
    explained = answers.values
    if answers.probabilities is not None:
        explained = answers.probabilities[:, codes.index(int(answers.values[0]))]
    assert list(found.contributions) == list(contract.features)
    assert found.value == pytest.approx(explained[0], abs=1e-6)
    assert found.base == pytest.approx(explained[1:].mean(), abs=1e-6)
    total = found.base + sum(found.contributions.values())
    assert total == pytest.approx(found.value, abs=1e-6)


@pytest.mark.parametrize("count", [1, 7, 400])
def test_a_sum_is_explained_by_its_terms_and_what_it_ignores_by_nothing(count):
    weights = np.arange(count) - 1.0
    background = np.random.default_rng(1).normal(size=(10, count))

    found = Explainer(linear(weights), background.tolist()).explain(np.full(count, 2.0))

    expected = weights * (2 - background.mean(axis=0))
    assert list(found.contributions.values()) == pytest.approx(expected.tolist(), abs=1e-9)
    assert found.explained == "value"


def test_features_that_do_the_same_together_share_the_difference():
    product = PolynomialFeatures(2, interaction_only=True, include_bias=False)
    rows = np.random.default_rng(0).normal(size=(30, 3))
    expanded = product.fit_transform(rows)
    model = LinearRegression().fit(expanded, rows[:, 0] * rows[:, 1])

    explainer = Explainer(served(model, numbers(3), product), [[0.0, 0.0, 0.0]])

    found = explainer.explain(np.array([3.0, 4.0, 5.0])).contributions
    assert list(found.values()) == pytest.approx([6.0, 6.0, 0.0], abs=1e-9)


def test_some_orders_come_near_what_all_give():
    random = np.random.default_rng(2)
    rows = random.normal(size=(300, 5))
    model = ExtraTreesRegressor(20, max_depth=6, random_state=0)
    model.fit(rows, rows[:, 0] * rows[:, 1] * rows[:, 2] + rows[:, 3:].sum(axis=1))
    predictor, background = served(model, numbers(5)), rows[:50]
    explainer = Explainer(predictor, background.tolist())

    for row in rows[63:66]:
        near = list(explainer.explain(row).contributions.values())

        exact = np.zeros(5)
        for order in permutations(range(5)):
            mixed = [background.copy()]
            for feature in order:
                mixed.append(mixed[-1].copy())
                mixed[-1][:, feature] = row[feature]
            answers = predictor.predict(np.vstack(mixed)).values.reshape(6, -1).mean(axis=1)
            exact[list(order)] += np.diff(answers) / 120
        assert near == pytest.approx(exact.tolist(), abs=0.01 * np.abs(exact).max())


def test_the_same_row_is_always_explained_alike():
    random = np.random.default_rng(3)
    background, rows = random.normal(size=(20, 12)).tolist(), random.normal(size=(2, 12))
    first, again = (Explainer(linear(np.ones(12)), background) for _ in range(2))

    found = [first.explain(row) for row in rows]

    assert [again.explain(row) for row in rows[::-1]][::-1] == found


def test_importance_is_the_mean_size_of_contributions():
    explainer = Explainer(linear(np.array([2.0, -1.0, 0.0])), [[0.0, 0.0, 0.0]])

    found = explainer.importance(np.array([[1.0, 4.0, 9.0], [-3.0, 2.0, 9.0]]))

    assert found == pytest.approx({"x0": 4.0, "x1": 3.0, "x2": 0.0})


PLAN = {"type": "category", "categories": list("abcd"), "unknown": "other", "missing": "separate"}
SINCE = {"type": "date"}
SHOP = contract_of("shop", {"price": {"missing": "median"}, "plan": PLAN, "since": SINCE})
# Monday and Wednesday of two years; nobody has plan b.
TRAINED = [(1.0, "a", "2024-01-01"), (9.5, "c", "2025-01-01"), (None, "d", "2025-01-06")]


def encoded(rows: list[Any], contract: Contract = SHOP) -> Any:
    return Encoder(contract)(zip(*rows, strict=True))


def test_a_value_outside_is_told_by_its_feature():
    rows = {
        (5.0, "a", "2024-01-03"): [],
        (0.99, "a", "2024-01-01"): ["price"],
        (5.0, "b", "2024-01-01"): ["plan"],
        (5.0, None, "2024-01-01"): ["plan"],
        (5.0, "a", "2025-01-05"): ["since"],
        (-1.0, "b", "1999-01-01"): ["price", "plan", "since"],
    }
    ranges = Ranges(SHOP, training_ranges(encoded(TRAINED), SHOP))

    expected = [[name in outside for name in SHOP.features] for outside in rows.values()]
    assert ranges.outside(encoded([*rows])).tolist() == expected
    for row, outside in zip(rows, expected, strict=True):
        alone = ranges.outside(encoded([row]))
        assert alone.tolist() == [outside] if any(outside) else alone is None


@given(st.data())
def test_rows_of_the_training_lie_inside_whatever_the_contract(data):
    contract = data.draw(CONTRACTS)
    row = st.tuples(*map(allowed_values, contract.features.values()))
    rows = data.draw(st.lists(row, min_size=1, max_size=8))
    matrix = encoded(rows, contract)
    ranges = Ranges(contract, training_ranges(matrix, contract))

    assert ranges.outside(matrix) is None
    assert all(ranges.outside(one[None]) is None for one in matrix)
    assert np.isfinite([one.least for one in training_ranges(matrix, contract).values()]).all()
