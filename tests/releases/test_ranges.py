"""What lies outside the rows that a model was trained on."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import Encoder
from mlops_for_mle.releases.explain import Ranges, training_ranges
from tests.contract.strategies import allowed_values, contracts
from tests.releases import contract_of

PLAN = {"type": "category", "categories": list("abcd"), "unknown": "other", "missing": "separate"}
SINCE = {"type": "date", "parts": ["year", "day_of_week"]}
CONTRACT = contract_of("shop", {"price": {"missing": "median"}, "plan": PLAN, "since": SINCE})
NAMES = list(CONTRACT.features)
# Monday and Wednesday of two years; nobody has plan b.
TRAINED = [(1.0, "a", "2024-01-01"), (9.5, "c", "2025-01-01"), (None, "d", "2025-01-06")]


def encoded(rows: list[Any], contract: Contract = CONTRACT) -> Any:
    return Encoder(contract)(zip(*rows, strict=True))


@pytest.mark.parametrize(
    ("row", "outside"),
    [
        ((5.0, "a", "2024-12-31"), []),
        ((None, "c", "2024-01-02"), []),
        ((0.99, "a", "2024-01-01"), ["price"]),
        ((5.0, "b", "2024-01-01"), ["plan"]),
        ((5.0, "new", "2024-01-01"), ["plan"]),
        ((5.0, None, "2024-01-01"), ["plan"]),
        ((5.0, "a", "2025-01-05"), ["since"]),
        ((-1.0, "b", "1999-01-01"), ["price", "plan", "since"]),
    ],
)
def test_a_value_outside_is_told_by_its_feature(row: tuple[Any, ...], outside: list[str]) -> None:
    ranges = Ranges(CONTRACT, training_ranges(encoded(TRAINED), CONTRACT))

    alone, among = ranges.outside(encoded([row])), ranges.outside(encoded([*TRAINED, row]))

    if not outside:
        assert alone is None
        assert among is None
        return
    expected = [name in outside for name in NAMES]
    assert alone.tolist() == [expected]
    assert among.tolist() == [[False] * 3] * 3 + [expected]


def test_a_column_without_values_has_no_bounds() -> None:
    known = training_ranges(encoded([(None, "a", "2024-01-01")]), CONTRACT)

    assert "price" not in known
    assert Ranges(CONTRACT, known).outside(encoded([(1e9, "a", "2024-01-01")])) is None


@given(st.data())
def test_rows_of_the_training_lie_inside_whatever_the_contract(data: st.DataObject) -> None:
    contract = data.draw(contracts().map(Contract.model_validate))
    row = st.tuples(*map(allowed_values, contract.features.values()))
    rows = data.draw(st.lists(row, min_size=1, max_size=8))
    matrix = encoded(rows, contract)
    ranges = Ranges(contract, training_ranges(matrix, contract))

    assert ranges.outside(matrix) is None
    assert all(ranges.outside(one[None]) is None for one in matrix)
    assert np.isfinite([one.least for one in training_ranges(matrix, contract).values()]).all()
