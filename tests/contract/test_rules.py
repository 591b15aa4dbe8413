import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.columns import plain_column, read_column, to_array
from mlops_for_mle.contract.notation import mask_missing
from mlops_for_mle.contract.rules import describe, fault, is_allowed
from tests.contract.strategies import any_values, features

FEATURES = features().map(Feature.model_validate)


@given(st.data())
def test_columns_are_held_to_the_rule_of_one_value(data):
    feature = data.draw(FEATURES)
    values = data.draw(st.lists(any_values(feature), min_size=1, max_size=8))
    column = read_column(mask_missing(pd.Series(values, dtype=object)), feature)

    allowed = is_allowed(to_array(column, feature), feature)

    read = plain_column(column, feature)
    assert allowed.tolist() == [fault(value, feature) is None for value in read]
    # What fits as one value is read in a column, too.
    for value, one, is_fitting in zip(values, read, allowed, strict=True):
        if fault(value, feature) is None:
            assert (is_fitting, one is None) == (True, value is None)


def test_a_number_is_told_what_is_wrong_with_it():
    values = (10**400, float("nan"), -1, True, 5)
    told = ["is too large", "is not finite", "is too small", "is no number", None]
    assert [fault(one, Feature(minimum=0, maximum=10)) for one in values] == told
    assert fault(3.5e38, Feature()) == "is too large"


def test_a_time_that_postgresql_cannot_hold_is_none():
    for value in ("2026-01-31\x0010:00:00", "2026-01-31\x0000:00"):
        assert fault(value, Feature(type="timestamp")) == "is no time"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"type": "integer", "minimum": 1234567}, "a whole number from 1234567"),
        ({"maximum": 3, "missing": "mean"}, "a number up to 3, or null"),
        ({"type": "date", "latest": "2026-01-01"}, "until 2026-01-01"),
        ({"type": "timestamp", "earliest": "2026-01-01"}, ", from 2026-01-01T00:00:00"),
        ({"type": "category", "categories": [*range(30)]}, "18, 19 and 10 more"),
        ({"type": "category", "categories": ["b"], "unknown": "other"}, "text"),
    ],
)
def test_what_is_allowed_is_said_in_words(facts, words):
    assert words in describe(Feature.model_validate(facts))
