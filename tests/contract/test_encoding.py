from datetime import datetime
from typing import Any, get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import (
    Encoder,
    Matrix,
    encoded_columns,
    possible_codes,
)
from mlops_for_mle.contract.model import DatePart
from tests.contract.strategies import CONTRACTS, allowed_values
from tests.mixed import MIXED_CONTRACT


def encode(columns: dict[str, Any], contract: Contract) -> Matrix:
    return Encoder(contract)(columns[name] for name in contract.features)


def one_feature(**facts: Any) -> Contract:
    raw = MIXED_CONTRACT.model_dump() | {"features": {"a": facts}}
    return Contract.model_validate(raw)


@given(st.data())
def test_a_row_is_encoded_alone_as_among_others(data):
    contract = data.draw(CONTRACTS)
    rows = [
        {name: data.draw(allowed_values(one)) for name, one in contract.features.items()}
        for _ in range(data.draw(st.integers(1, 4)))
    ]
    together = encode({name: [row[name] for row in rows] for name in contract.features}, contract)
    alone = [encode({name: [row[name]] for name in contract.features}, contract) for row in rows]

    assert together.shape == (len(rows), len(encoded_columns(contract)))
    np.testing.assert_array_equal(together, np.concatenate(alone))


@given(st.datetimes())
def test_the_parts_of_a_time_are_those_of_the_calendar(time):
    contract = one_feature(type="timestamp", parts=get_args(DatePart))

    row = encode({"a": [time.isoformat()]}, contract)[0].tolist()

    days = time.toordinal() - datetime(1970, 1, 1).toordinal()  # noqa: DTZ001
    assert row == [days, time.year, time.month, time.day, time.isoweekday(), time.hour]


def test_dates_that_come_again_are_encoded_alike_and_no_rows_are_none():
    contract = one_feature(type="date", parts=["year", "day"], missing="median")
    days = ["2026-01-31", None, "2025-02-01"] * 100
    times = np.array(days, "datetime64[us]")

    expected = [[2026, 31], [np.nan, np.nan], [2025, 1]] * 100
    np.testing.assert_array_equal(encode({"a": days}, contract), expected)
    np.testing.assert_array_equal(encode({"a": times}, contract), expected)
    assert encode({"a": []}, contract).shape == encode({"a": times[:0]}, contract).shape == (0, 2)


def test_categories_and_what_is_missing_have_codes():
    categories = {"type": "category", "categories": ["x", "y"], "unknown": "other"}
    separate = one_feature(**categories, missing="separate")
    most = one_feature(**categories, missing="most_frequent")

    assert encode({"a": ["y", "new", None]}, separate).tolist() == [[1.0], [-1.0], [2.0]]
    assert np.isnan(encode({"a": [None]}, most)).all()
    assert possible_codes(separate.features["a"]) == (0.0, 1.0, 2.0, -1.0)


def test_two_columns_of_the_matrix_never_have_one_name():
    raw = MIXED_CONTRACT.model_dump() | {
        "features": {"a.month": {}, "a": {"type": "date", "parts": ["month", "day"]}}
    }

    names = [one.name for one in encoded_columns(Contract.model_validate(raw))]

    assert names == ["a.month", "a.month_", "a.day"]
