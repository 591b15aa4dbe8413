"""Tensors of the Open Inference Protocol at their edges; ``test_clients`` has its own client."""

import json
import struct
from typing import Any

from tests.serving.conftest import IRIS_ROW

PATH = "/v2/models/iris/infer"


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": [1, 1, 1, 1]} | changes


def test_json_tensors_are_read_flat_and_nested(client):
    for one in (
        tensor(),
        tensor(data=[[1, 1, 1, 1]]),
        tensor(shape=[2, 4], data=[[1] * 4, [2] * 4], datatype="UINT8"),
        # As MLServer's own types are written.
        tensor(parameters={"content_type": None, "binary_data": None}),
        tensor(parameters=None),
    ):
        unsaid = dict.fromkeys(("id", "parameters", "outputs"))
        answer = client.post(PATH, json={"inputs": [one]} | unsaid)

        assert answer.status_code == 200, one
        assert answer.json()["outputs"][0]["shape"] == one["shape"][:1]


def test_wrong_tensors_are_refused_in_one_sentence(client):
    for inputs, message in (
        ([], "inputs.sepal_length"),
        ([tensor(data=[1, 1, 1])], "inputs.features.data"),
        ([tensor(data=[[1, 1], [1]])], "inputs.features.data"),
        ([tensor(data=[1, 1, 1, None])], "inputs.features.data"),
        ([tensor(datatype="BYTES")], "inputs.features"),
        ([tensor(shape=[0, 4], data=[])], "shape"),
        ([tensor(shape=[2**62, 4])], "inputs.features.data"),
        ([tensor(shape=[4])], "inputs.features"),
        ([tensor(), tensor()], "inputs.features"),
        ([tensor(parameters={"binary_data_size": 32})], "inputs: has no rows"),
    ):
        answer = client.post(PATH, json={"inputs": inputs})

        assert answer.status_code == 400, inputs
        assert set(answer.json()) == {"error"}
        assert message in answer.json()["error"]


def test_binary_data_fits_its_header_and_its_shape_or_is_refused(client):
    def matrix(size: int) -> list[dict[str, Any]]:
        return [tensor(parameters={"binary_data_size": size})]

    def columns(last: int) -> list[dict[str, Any]]:
        """Two rows, of whose last column some values are there."""
        counts = dict.fromkeys(IRIS_ROW, 2) | {"petal_width": last}
        return [
            tensor(name=name, shape=[2], parameters={"binary_data_size": 8 * count})
            for name, count in counts.items()
        ]

    ones = (1, 1, 1, 1)
    for tensors, values, mistake, status in (
        (matrix(32), ones, 0, 200),
        (matrix(32), ones[1:], 0, 400),
        (matrix(32), (*ones, 1), 0, 400),
        (matrix(32), (1, 1, 1, float("nan")), 0, 400),
        (matrix(32), ones, 10**30, 400),
        (columns(2), [1] * 8, 0, 200),
        (columns(1), [1] * 7, 0, 400),
    ):
        head = json.dumps({"inputs": tensors}).encode()
        answer = client.post(
            PATH,
            content=head + struct.pack(f"<{len(values)}d", *values),
            headers={"Inference-Header-Content-Length": str(len(head) + mistake)},
        )
        assert answer.status_code == status, (tensors, values, mistake)
