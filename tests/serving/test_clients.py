"""Clients that people have, tritonclient and MLflow's, against a server process."""

import sys
from runpy import run_path

import httpx
import numpy as np
import pandas as pd
import pytest
import tritonclient.http as triton
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from mlops_for_mle.database.schema import ensure_observations
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.predictor import load_predictor
from mlops_for_mle.releases.store import ReleaseStore
from tests import PROJECT
from tests.mixed import MIXED_ROW
from tests.releases import IRIS_CONTRACT
from tests.servers import query
from tests.serving.conftest import IRIS_ROW, Client, Database, ServerProcess, server_processes

NAMES = list(IRIS_ROW)
ROWS = np.array([list(IRIS_ROW.values()), [5.1, 3.5, 1.4, 0.2]])


@pytest.fixture(scope="module")
def server(tmp_path_factory, server_url: str, iris: Release):
    folder = tmp_path_factory.mktemp("clients")
    ReleaseStore(str(folder / "data" / "releases")).publish(iris)
    Database(server_url).deploy(iris)
    with server_processes(folder) as start:
        process = start(DATABASE_URL=server_url)
        process.wait_until_ready()
        yield process


@pytest.fixture
def client(server: ServerProcess):
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as found:
        yield found


def matrix(rows: np.ndarray, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput("features", list(rows.shape), "FP64")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def test_mlflows_client_gets_its_answers(server):
    client = ScoringServerClient(*server.address)

    client.wait_server_ready(timeout=90)
    answers = client.invoke(pd.DataFrame(ROWS, columns=NAMES)).get_predictions()

    assert answers[answers.columns[0]].tolist() == [2, 0]
    assert client.get_version()


def test_traffic_is_drawn_from_the_rows_and_tilted_by_a_number(
    server, server_url, monkeypatch, capsys
):
    ensure_observations(server_url, IRIS_CONTRACT)
    # What other tests have sent to this server.
    query(server_url, "TRUNCATE iris_data")
    main = run_path(str(PROJECT / "scripts/send_traffic.py"))["main"]

    def send(*options: str) -> None:
        monkeypatch.setattr(sys, "argv", ["", "--url", server.url, *options])
        main()

    with pytest.raises(SystemExit, match="There are no observations"):
        send("--tilt=petal_length=2")
    answer = httpx.post(f"{server.url}/observations", json=IRIS_ROW | {"target": 2})
    assert answer.status_code == 201
    send("--rows=3", "--tilt=petal_length=2")
    assert capsys.readouterr().out == "3 rows were predicted, 3 true labels told.\n"
    for wrong in ("colour=2", "petal_length", "timestamp=2"):
        with pytest.raises(SystemExit, match=rf"\(found {wrong}\)"):
            send(f"--tilt={wrong}")


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


@pytest.mark.parametrize(("binary", "version"), [(True, ""), (False, "1")])
def test_rows_are_answered_in_json_and_in_binary(client, iris, binary, version):
    names = ("probabilities", "label", "iris_class")
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]

    result = client.infer("iris", [matrix(ROWS, binary)], version, outputs, request_id="mine")

    facts = result.get_response()
    assert (facts["model_name"], facts["model_version"], facts["id"]) == ("iris", "1", "mine")
    expected = load_predictor(iris).predict(ROWS)
    assert result.as_numpy("iris_class").tolist() == expected.values.tolist()
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected.probabilities)
    labels = [b"virginica", b"setosa"] if binary else ["virginica", "setosa"]
    assert result.as_numpy("label").tolist() == labels


@pytest.mark.parametrize(("shape", "binary"), [((2,), True), ((2, 1), False)])
def test_a_tensor_for_each_feature_is_taken_in_any_order(client, shape, binary):
    tensors = []
    for position, name in reversed(list(enumerate(NAMES))):
        tensors.append(triton.InferInput(name, list(shape), "FP64"))
        tensors[-1].set_data_from_numpy(ROWS[:, position].reshape(shape), binary_data=binary)

    result = client.infer("iris", tensors)
    assert result.as_numpy("label").tolist() == [b"virginica", b"setosa"]
    facts = result.get_response()
    assert facts["id"] == facts["parameters"]["prediction_id"]


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


def test_a_tensor_of_each_type_is_taken(settings, mixed):
    client, path = Client(settings, mixed), "/v2/models/churn"
    kinds = {one["name"]: one["datatype"] for one in client.get(path).json()["inputs"]}
    assert (kinds["월 요금"], kinds["is new"], kinds['the "plan"']) == ("FP64", "BOOL", "BYTES")
    # Whole numbers may be missing, so the model says FP64, and takes both.
    kinds |= {"select": "INT64", "region code": "INT64"}
    tensors = []
    for name, value in MIXED_ROW.items():
        tensors.append(triton.InferInput(name, [2], kinds[name]))
        tensors[-1].set_data_from_numpy(np.array([value] * 2, triton_to_np_dtype(kinds[name])))

    wanted = [triton.InferRequestedOutput(one, binary_data=False) for one in ("churn", "label")]
    content, length = triton.InferenceServerClient.generate_request_body(tensors, wanted)
    headers = {"Inference-Header-Content-Length": str(length)}
    answer = client.post(f"{path}/infer", content=content, headers=headers)

    assert answer.status_code == 200, answer.text
    found = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    one = client.predict(MIXED_ROW)
    assert (found["churn"], found["label"]) == ([one["churn"]] * 2, [one["label"]] * 2)
