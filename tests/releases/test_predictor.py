"""A model in service: it answers as it was trained, and a release proves that when it is loaded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.releases.predictor import Predictor, load
from tests.releases import IRIS_CONTRACT, changed

LENGTHS = st.floats(0.1, 10, allow_nan=False)
ROWS = st.lists(st.tuples(LENGTHS, LENGTHS, LENGTHS, LENGTHS), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def predictor(release) -> Predictor:
    return load(release)


@given(ROWS)
def test_a_row_is_answered_with_the_likeliest_class_alone_and_among_others(predictor, rows):
    together = predictor.predict(np.array(rows))

    np.testing.assert_allclose(together.probabilities.sum(axis=1), np.ones(len(rows)), atol=1e-5)
    assert together.values.tolist() == together.probabilities.argmax(axis=1).tolist()
    for index, row in enumerate(rows):
        alone = predictor.predict(np.array([row]))
        assert alone.values[0] == together.values[index]
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[index], atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"predictions": (2.0, 1.0, 0.0)}, {"probabilities": ((1.0, 0.0, 0.0),) * 3}]
)
def test_a_release_that_answers_its_example_otherwise_is_refused(release, changes):
    example = release.manifest.example.model_copy(update=changes)

    with pytest.raises(ReleaseError, match="answers its own example differently"):
        load(changed(release, example=example))


def test_a_graph_that_takes_its_weights_from_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(b"a secret")
    weights = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[8])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="secret")
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 4])
    answer = helper.make_tensor_value_info("prediction", TensorProto.UINT8, [8])
    node = helper.make_node("Identity", ["w"], ["prediction"])
    graph = helper.make_graph([node], "leak", [given], [answer], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    with pytest.raises(ReleaseError, match="onnxruntime cannot load the model"):
        Predictor(model.SerializeToString(), IRIS_CONTRACT)


def test_what_is_no_graph_is_refused():
    for model in (b"", b"no graph at all", b"\x08\x07"):
        with pytest.raises(ReleaseError, match="onnxruntime cannot load the model"):
            Predictor(model, IRIS_CONTRACT)
