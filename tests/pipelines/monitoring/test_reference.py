"""How the rows of a snapshot are sorted into bins."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlops_for_mle.contract import Feature
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.reference import (
    Deployed,
    Reference,
    bin_edges,
    describe_reference,
    read_feature,
)
from mlops_for_mle.releases.manifest import Release
from tests.pipelines.monitoring.examples import reference
from tests.pipelines.monitoring.traffic import trained_on
from tests.releases import house_release


def described(release: Release, rows: pd.DataFrame, bins: int = 10) -> Reference:
    options = MonitoringOptions.model_validate({"drift": {"bins": bins}})
    return describe_reference(Deployed(trained_on(release, rows), rows, rows), options)


def test_rows_that_the_release_was_not_trained_on_are_refused() -> None:
    release = house_release(1)
    rows = pd.DataFrame(
        {"방 수": [1, 2, 3], "area m2": [10.0, 20.0, 30.0], "price": [1.0, 2.0, 3.0]}
    )
    altered = rows.assign(price=[1.0, 2.0, 4.0])

    assert described(release, rows).manifest.snapshot.row_count == 3
    with pytest.raises(ReleaseError, match="was altered"):
        describe_reference(Deployed(trained_on(release, rows), altered, rows), MonitoringOptions())


VALUES = arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32))


@given(VALUES, st.integers(2, 20))
def test_edges_are_ascending_and_never_on_a_value_that_occurs(
    values: np.ndarray, bins: int
) -> None:
    edges = bin_edges(values, bins)

    assert len(edges) <= max(bins - 1, 2)
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
    ],
)
def test_a_value_that_is_most_of_a_feature_has_a_bin_of_its_own(values, counts) -> None:
    column, numbers = read_feature("a", Feature(), pd.Series(values), 10)
    assert column.holding(numbers).counts == counts


def test_the_answers_of_a_regression_are_sorted_into_bins() -> None:
    rows = pd.DataFrame({"방 수": [1, 2, 3, 4] * 10, "area m2": np.linspace(20, 90, 40)})
    rows["price"] = 10.0 * rows["방 수"] + 2 * rows["area m2"]

    found = described(house_release(1), rows, bins=4)

    assert found.prediction.kind == "answer"
    assert found.prediction.counts == (10, 10, 10, 10)
    assert found.target_scale == pytest.approx(rows["price"].std(ddof=0))
    rooms = found.features[0]
    assert (rooms.kind, rooms.minimum, rooms.maximum) == ("whole", 1, 20)


def test_a_subject_never_takes_the_name_of_a_feature() -> None:
    assert reference().subject("prediction") == "prediction"
    assert reference().subject("width") == "(width)"
