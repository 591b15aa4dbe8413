"""A model in service: it answers as it was trained, and a release proves that when it is loaded."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract.columns import encode_rows
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.predictor import Predictor, load
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.releases import IRIS_CONTRACT, iris_release, mixed_release

LENGTHS = st.floats(0.1, 10, allow_nan=False)
ROWS = st.lists(st.tuples(LENGTHS, LENGTHS, LENGTHS, LENGTHS), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def predictor(release: Release) -> Predictor:
    return load(release)


@given(ROWS)
def test_a_row_is_answered_with_the_likeliest_class_alone_and_among_others(
    predictor: Predictor, rows: list[Any]
) -> None:
    together = predictor.predict(np.array(rows))

    np.testing.assert_allclose(together.probabilities.sum(axis=1), np.ones(len(rows)), atol=1e-5)
    assert together.values.tolist() == together.probabilities.argmax(axis=1).tolist()
    for index, row in enumerate(rows):
        alone = predictor.predict(np.array([row]))
        assert alone.values[0] == together.values[index]
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[index], atol=1e-6)


def test_a_copy_in_another_process_answers_alike() -> None:
    release, rows = mixed_release(threshold=0.2), mixed_rows(50, seed=3)
    matrix = encode_rows(rows, MIXED_CONTRACT)
    predictor = Predictor(release.model, MIXED_CONTRACT, release.manifest.threshold)

    copied = pickle.loads(pickle.dumps(predictor)).predict(matrix)

    found = predictor.predict(matrix)
    assert found.values.tolist() == (found.probabilities[:, 1] >= 0.2).astype(int).tolist()
    np.testing.assert_array_equal(copied.values, found.values)
    np.testing.assert_array_equal(copied.probabilities, found.probabilities)


@pytest.mark.parametrize(
    "changes", [{"predictions": (2.0, 1.0, 0.0)}, {"probabilities": ((1.0, 0.0, 0.0),) * 3}]
)
def test_a_release_that_answers_its_example_otherwise_is_refused(changes: dict[str, Any]) -> None:
    example = iris_release().manifest.example.model_copy(update=changes)

    with pytest.raises(ReleaseError, match="answers its own example differently"):
        load(iris_release(example=example))


def test_what_is_no_graph_is_refused() -> None:
    for model in (b"", b"no graph at all", b"\x08\x07"):
        with pytest.raises(ReleaseError, match="onnxruntime cannot load the model"):
            Predictor(model, IRIS_CONTRACT)
