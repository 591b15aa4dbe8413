"""How the rows of a snapshot are sorted into bins."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlops_for_mle.contract import Feature
from mlops_for_mle.pipelines.monitoring.reference import bin_edges, read_feature


@given(arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32)))
def test_edges_are_ascending_and_never_on_a_value_that_occurs(values: np.ndarray) -> None:
    edges = bin_edges(values)

    assert len(edges) <= 9
    assert (np.diff(edges) > 0).all()
    if len(np.unique(values)) > 1:
        counts = np.bincount(np.searchsorted(edges, values, side="right"))
        assert len(counts) == len(edges) + 1
        assert (counts > 0).all()


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([3.0] * 50, (0, 50, 0)),
        ([0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0], (95, 5)),
        ([1.0] + [9.0] * 99, (1, 99)),
        ([np.nan] * 9, (0,)),
        ([1.0, 2.0, 3.0, 4.0] * 10, (10, 10, 10, 10)),
    ],
)
def test_a_value_that_is_most_of_a_feature_has_a_bin_of_its_own(values, counts) -> None:
    column, numbers = read_feature(Feature(), pd.Series(values))
    assert column.holding(numbers).counts == counts
