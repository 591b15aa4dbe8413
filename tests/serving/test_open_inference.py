"""The Open Inference Protocol with tritonclient, against a server process."""

import json
import struct

import numpy as np
import pytest
import tritonclient.http as triton
from fastapi.testclient import TestClient
from tritonclient.utils import InferenceServerException

from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.predictor import load
from mlops_for_mle.releases.store import ReleaseStore
from mlops_for_mle.serving.app import create_app
from mlops_for_mle.serving.settings import ServingSettings
from tests.serving.conftest import IRIS_ROW, Database, ServerProcess, make

NAMES = list(IRIS_ROW)
ROWS = np.array([list(IRIS_ROW.values()), [5.1, 3.5, 1.4, 0.2]])


@pytest.fixture(scope="module")
def server(tmp_path_factory, server_url: str, iris: Release):
    folder = tmp_path_factory.mktemp("open_inference")
    ReleaseStore(str(folder / "data" / "releases")).publish(iris)
    Database(server_url).deploy(iris)
    process = ServerProcess(folder, DATABASE_URL=server_url)
    process.wait_until_ready()
    yield process
    process.stop()


@pytest.fixture
def client(server: ServerProcess):
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as found:
        yield found


@pytest.fixture
def expected(iris: Release):
    return load(iris).predict(ROWS)


def matrix(rows: np.ndarray, kind: str = "FP64", binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput("features", list(rows.shape), kind)
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def test_health_and_metadata(client, iris: Release):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "1")
    assert not client.is_model_ready("iris", "2")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("iris")
    assert metadata == client.get_model_metadata("iris", "1")
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}]
    assert [one["name"] for one in metadata["outputs"]] == ["iris_class", "label", "probabilities"]
    assert metadata["parameters"] == {"features": NAMES, "release": iris.manifest.release}


@pytest.mark.parametrize(
    ("binary_input", "binary_output", "version"),
    [(True, True, ""), (True, False, "1"), (False, True, "1"), (False, False, "")],
)
def test_rows_are_answered_in_json_and_in_binary(
    client, expected, binary_input, binary_output, version
):
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary_output)
        for name in ("probabilities", "label", "iris_class")
    ]

    result = client.infer(
        "iris", [matrix(ROWS, binary=binary_input)], version, outputs, request_id="mine"
    )

    assert result.get_response()["id"] == "mine"
    assert result.as_numpy("iris_class").tolist() == expected.values.tolist()
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected.probabilities)
    labels = [
        one.decode() if isinstance(one, bytes) else one for one in result.as_numpy("label").tolist()
    ]
    assert labels == ["virginica", "setosa"]


def test_without_outputs_all_are_answered_in_binary(client, expected):
    result = client.infer("iris", [matrix(ROWS)])

    assert result.as_numpy("iris_class").tolist() == expected.values.tolist()
    assert result.as_numpy("label").tolist() == [b"virginica", b"setosa"]
    assert result.as_numpy("probabilities").shape == (2, 3)
    facts = result.get_response()
    assert facts["model_name"] == "iris"
    assert facts["model_version"] == "1"
    assert facts["id"] == facts["parameters"]["prediction_id"]


@pytest.mark.parametrize(("shape", "binary"), [((2,), True), ((2, 1), False)])
def test_a_tensor_for_each_feature_is_taken_in_any_order(client, shape, binary):
    tensors = []
    for position, name in reversed(list(enumerate(NAMES))):
        tensors.append(triton.InferInput(name, list(shape), "FP64"))
        tensors[-1].set_data_from_numpy(ROWS[:, position].reshape(shape), binary_data=binary)

    assert client.infer("iris", tensors).as_numpy("iris_class").tolist() == [2, 0]


@pytest.mark.parametrize(
    ("model", "version", "more", "status", "told"),
    [
        ("other", "", 0, "404", "no .*other"),
        ("iris", "7", 0, "404", "no .*7"),
        ("iris", "", 5, "400", r"inputs\.sepal_length\[0\]: is too large, found 11\.7"),
    ],
)
def test_what_is_not_there_or_not_allowed_is_named(client, model, version, more, status, told):
    with pytest.raises(InferenceServerException, match=told) as caught:
        client.infer(model, [matrix(ROWS + more)], version)

    assert caught.value.status() == status


def tensor(**changes) -> dict:
    return {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": [1, 1, 1, 1]} | changes


@pytest.fixture(scope="module")
def direct(tmp_path_factory, iris: Release) -> TestClient:
    settings = ServingSettings.load({"project_path": tmp_path_factory.mktemp("direct")})
    return TestClient(create_app(make(settings, iris)), base_url="http://localhost")


@pytest.mark.parametrize(
    "tensor_in_json",
    [
        tensor(),
        tensor(data=[[1, 1, 1, 1]]),
        tensor(name="predict"),
        tensor(shape=[2, 4], data=[[1] * 4, [2] * 4], datatype="INT32"),
    ],
)
def test_json_tensors_are_read_flat_and_nested(direct: TestClient, tensor_in_json):
    answer = direct.post("/v2/models/iris/infer", json={"inputs": [tensor_in_json]})

    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["shape"] == tensor_in_json["shape"][:1]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "inputs.sepal_length"),
        ([tensor(data=[1, 1, 1])], "inputs.features.data"),
        ([tensor(data=["a"] * 4)], "inputs.features.data"),
        ([tensor(data=[[1, 1], [1]])], "inputs.features.data"),
        ([tensor(data=[[1, 1, 1, 1], []])], "inputs.features.data"),
        ([tensor(data=[1, 1, 1, 1, "a"])], "inputs.features.data"),
        ([tensor(data=[1, 1, 1, None])], "inputs.features.data"),
        ([tensor(datatype="BYTES")], "inputs.features"),
        ([tensor(shape=[0, 4], data=[])], "shape"),
        ([tensor(shape=[2**62, 4])], "inputs.features.data"),
        ([tensor(shape=[4])], "inputs.features"),
        ([tensor(), tensor()], "inputs.features"),
        ([tensor(parameters={"binary_data_size": 32})], "inputs: has no rows"),
        ([{"name": "a"}], "shape"),
        ("a", "inputs"),
    ],
)
def test_wrong_tensors_are_refused_in_one_sentence(direct: TestClient, inputs, message):
    answer = direct.post("/v2/models/iris/infer", json={"inputs": inputs})

    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("size", "values", "shift", "status"),
    [
        (32, (1, 1, 1, 1), 0, 200),
        (32, (1, 1, 1), 0, 400),
        (24, (1, 1, 1), 0, 400),
        (32, (1, 1, 1, 1, 1), 0, 400),
        (32, (1, 1, 1, float("nan")), 0, 400),
        (32, (1, 1, 1, 1), 10**30, 400),
        (32, (1, 1, 1, 1), -3, 400),
        (-32, (1, 1, 1, 1), 0, 400),
    ],
)
def test_binary_data_fits_its_header_or_is_refused(direct: TestClient, size, values, shift, status):
    head = json.dumps({"inputs": [tensor(parameters={"binary_data_size": size})]}).encode()

    answer = direct.post(
        "/v2/models/iris/infer",
        content=head + struct.pack(f"<{len(values)}d", *values),
        headers={"Inference-Header-Content-Length": str(len(head) + shift)},
    )

    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(("count", "status"), [(2, 200), (1, 400), (0, 400)])
def test_binary_columns_have_the_values_of_their_shape(direct: TestClient, count, status):
    sizes = dict.fromkeys(NAMES, 2) | {"petal_width": count}
    tensors = [
        tensor(name=name, shape=[2], parameters={"binary_data_size": 8 * size})
        for name, size in sizes.items()
    ]
    head = json.dumps({"inputs": tensors}).encode()

    answer = direct.post(
        "/v2/models/iris/infer",
        content=head + struct.pack("<d", 1) * sum(sizes.values()),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )

    assert answer.status_code == status, answer.text
