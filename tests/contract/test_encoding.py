from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import Encoder, encoded_columns, possible_codes
from tests.contract.strategies import CONTRACTS, allowed_values
from tests.mixed import MIXED_CONTRACT


def one_feature(**facts: Any) -> Contract:
    raw = MIXED_CONTRACT.model_dump() | {"features": {"a": facts}}
    return Contract.model_validate(raw)


@given(st.data())
def test_a_row_is_encoded_alone_as_among_others(data):
    contract = data.draw(CONTRACTS)
    values = st.tuples(*map(allowed_values, contract.features.values()))
    rows = data.draw(st.lists(values, min_size=1, max_size=4))
    encode = Encoder(contract)

    together = encode(zip(*rows, strict=True))
    alone = [encode([value] for value in row) for row in rows]

    assert together.shape == (len(rows), len(encoded_columns(contract)))
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_a_time_is_encoded_by_its_parts_also_where_it_comes_again():
    encode = Encoder(one_feature(type="timestamp", missing="median"))
    texts = ["2026-01-31", None, "2025-02-01T13:30:00"] * 100
    times = np.array(texts, "datetime64[us]")

    expected = [[20484, 1, 31, 6, 0], [np.nan] * 5, [20120, 2, 1, 6, 13]] * 100
    for given_times in (texts, times):
        np.testing.assert_array_equal(encode([given_times]), expected)
        np.testing.assert_array_equal(encode([given_times[:3]]), expected[:3])
    assert encode([[]]).shape == encode([times[:0]]).shape == (0, 5)


def test_categories_and_what_is_missing_have_codes():
    categories = {"type": "category", "categories": ["x", "y"], "unknown": "other"}
    separate = one_feature(**categories, missing="separate")
    most = one_feature(**categories, missing="most_frequent")

    assert Encoder(separate)([["y", "new", None]]).tolist() == [[1.0], [-1.0], [2.0]]
    assert np.isnan(Encoder(most)([[None]])).all()
    assert possible_codes(separate.features["a"]) == (0.0, 1.0, 2.0, -1.0)


def test_two_columns_of_the_matrix_never_have_one_name():
    features = {"a.month": {}, "a": {"type": "date"}}
    contract = Contract.model_validate(MIXED_CONTRACT.model_dump() | {"features": features})

    names = [one.name for one in encoded_columns(contract)]

    assert names == ["a.month", "a.days_since_1970", "a.month_", "a.day", "a.day_of_week"]
