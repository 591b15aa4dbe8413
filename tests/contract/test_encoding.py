from datetime import datetime
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


@given(st.datetimes())
def test_the_parts_of_a_time_are_those_of_the_calendar(time):
    encode = Encoder(one_feature(type="timestamp"))

    row = encode([[time.isoformat()]])[0].tolist()

    days = time.toordinal() - datetime(1970, 1, 1).toordinal()  # noqa: DTZ001
    assert row == [days, time.month, time.day, time.isoweekday(), time.hour]


def test_dates_that_come_again_are_encoded_alike_and_no_rows_are_none():
    encode = Encoder(one_feature(type="date", missing="median"))
    days = ["2026-01-31", None, "2025-02-01"] * 100
    times = np.array(days, "datetime64[us]")

    expected = [[20484, 1, 31, 6], [np.nan] * 4, [20120, 2, 1, 6]] * 100
    np.testing.assert_array_equal(encode([days]), expected)
    np.testing.assert_array_equal(encode([times]), expected)
    assert encode([[]]).shape == encode([times[:0]]).shape == (0, 4)


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
