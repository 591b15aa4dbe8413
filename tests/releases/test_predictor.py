"""A model in service: it answers as it was trained, and a release proves that when it is loaded."""

import pytest
from onnx import TensorProto, helper

from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.releases.predictor import Predictor, load_predictor
from tests.releases import IRIS_CONTRACT, changed


@pytest.mark.parametrize(
    "changes", [{"predictions": (2.0, 1.0, 0.0)}, {"probabilities": ((1.0, 0.0, 0.0),) * 3}]
)
def test_a_release_that_answers_its_example_otherwise_is_refused(release, changes):
    example = release.manifest.example.model_copy(update=changes)

    with pytest.raises(ReleaseError, match="answers its own example differently"):
        load_predictor(changed(release, example=example))


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
