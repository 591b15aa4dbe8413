import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.resolvers import one_of


@given(st.lists(st.text(max_size=5), min_size=1), st.data())
def test_an_allowed_value_is_given_back(allowed: list[str], data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(allowed))

    assert one_of("source", value, *allowed) == value


@pytest.mark.parametrize("value", ["Csv", "", "csv ", None, 1])
def test_another_value_is_refused_with_those_that_are_allowed(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        one_of("source", value, "dataset", "csv")

    assert str(caught.value) == f"source: expected one of dataset, csv (found {value!r})"
