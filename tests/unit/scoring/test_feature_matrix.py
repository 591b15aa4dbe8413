"""Rows of raw values as the model's matrix."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.scoring.feature_matrix import FeatureMatrix, FeatureReader
from tests.releases import HOUSE_CONTRACT, IRIS_CONTRACT

GOOD = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.floats(0, 10),
    st.integers(),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.text(max_size=5),
)


def read(*rows: dict[str, Any], contract: Contract = IRIS_CONTRACT) -> FeatureMatrix:
    return FeatureReader(contract, "float32").read(rows)


def reason(value: Any, name: str = "sepal_width", contract: Contract = IRIS_CONTRACT) -> str:
    good = GOOD if contract is IRIS_CONTRACT else {"방 수": 3, "area m2": 80.0}
    ((rejected),) = read({**good, name: value}, contract=contract).rejected
    return rejected.reason


def test_good_rows_become_the_matrix_in_the_order_of_the_contract() -> None:
    backwards = dict(reversed(GOOD.items())) | {"target": "ignored"}

    found = read(GOOD, backwards)

    assert found.values.tolist() == [[5.1, 3.5, 1.4, 0.2]] * 2
    assert found.positions.tolist() == [0, 1]
    assert found.rejected == ()


def test_bad_rows_are_left_out_and_keep_their_position() -> None:
    found = read(GOOD | {"petal_width": math.nan}, GOOD, {}, GOOD | {"petal_width": 7})

    assert found.values.tolist() == [[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4, 7.0]]
    assert found.positions.tolist() == [1, 3]
    assert [one.position for one in found.rejected] == [0, 2]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "is missing"),
        (math.nan, "is not finite, found nan"),
        (math.inf, "is not finite, found inf"),
        (Decimal("NaN"), "is not finite, found nan"),
        (-0.5, "is too small, found -0.5"),
        (10.5, "is too large, found 10.5"),
        (10**400, "is beyond what the model computes"),
        ("3.5", "is no number, found '3.5'"),
        (True, "is no number, found True"),
        ([3.5], "is no number, found [3.5]"),
    ],
)
def test_the_reason_says_which_feature_what_was_found_and_what_is_allowed(
    value: Any, fault: str
) -> None:
    found = reason(value)

    assert found.startswith(f"sepal_width: {fault}")
    assert found.endswith("; allowed is a number from 0 to 10")


def test_a_fraction_is_refused_where_the_contract_wants_whole_numbers() -> None:
    assert reason(2.5, "방 수", HOUSE_CONTRACT) == (
        "방 수: is no whole number, found 2.5; allowed is a whole number from 1 to 20"
    )
    assert "beyond what the model computes" in reason(1e39, "area m2", HOUSE_CONTRACT)


def test_all_faults_of_a_row_are_told_at_once() -> None:
    (rejected,) = read({**GOOD, "sepal_length": 99, "petal_width": "wide"}).rejected

    assert rejected.reason.count("allowed is") == 2


def test_numbers_of_every_numeric_type_are_taken() -> None:
    row = {
        "sepal_length": Decimal("5.1"),
        "sepal_width": 3,
        "petal_length": np.float32(1.5),
        "petal_width": np.int64(1),
    }

    assert read(row).values.tolist() == [[5.1, 3.0, 1.5, 1.0]]


def test_nothing_given_is_an_empty_matrix() -> None:
    found = read()

    assert found.values.shape == (0, 4)
    assert found.rejected == ()


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(GOOD, anything)), max_size=5))
def test_every_row_is_either_in_the_matrix_or_rejected(rows: list[dict[str, Any]]) -> None:
    found = read(*rows)

    told = [*found.positions.tolist(), *(one.position for one in found.rejected)]
    assert sorted(told) == list(range(len(rows)))
    assert ((found.values >= 0) & (found.values <= 10)).all()


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(GOOD, anything)), min_size=1, max_size=5))
def test_a_frame_is_read_as_its_rows_are(rows: list[dict[str, Any]]) -> None:
    frame = pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=object) for name in GOOD}
    )

    by_rows, by_frame = read(*rows), FeatureReader(IRIS_CONTRACT, "float32").read(frame)

    assert np.array_equal(by_rows.values, by_frame.values)
    assert [one.position for one in by_rows.rejected] == [one.position for one in by_frame.rejected]


def test_a_frame_of_numbers_with_gaps_is_read_without_the_gaps() -> None:
    frame = pd.DataFrame([GOOD, GOOD]).astype({"sepal_width": "Float64"})
    frame.loc[0, "petal_width"] = np.nan
    frame.loc[1, "sepal_width"] = pd.NA

    found = FeatureReader(IRIS_CONTRACT, "float64").read(frame)

    assert found.values.shape == (0, 4)
    assert "sepal_width: is missing" in found.rejected[1].reason


def test_a_frame_that_lacks_a_column_has_only_rejected_rows() -> None:
    found = FeatureReader(IRIS_CONTRACT, "float64").read(
        pd.DataFrame([GOOD]).drop(columns="petal_width")
    )

    assert found.rejected[0].reason.startswith("petal_width: is missing")
