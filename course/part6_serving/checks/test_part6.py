"""What the programs of part 6 must do: bring a model, serve it, end in order, and ask for answers."""

import json
import re
import shutil
import signal
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer
from uuid import uuid4

import pytest

from course.conftest import answers, not_copied
from course.hints import hint
from tests.servers import eventually

SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
VERSICOLOR = {"sepal_length": 5.9, "sepal_width": 2.8, "petal_length": 4.3, "petal_width": 1.3}
VIRGINICA = {"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}


def graph(bias: tuple[float, ...] = (0, -2.5, -7.4), width: int = 4) -> bytes:
    """A small model in ONNX that looks at the third feature, and prefers the class of a large bias."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((width, 3))
    weights[2] = (0, 1, 2)
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    made = helper.make_graph(
        nodes,
        "iris",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, [None, width])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [None])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array(bias, dtype=float), "bias"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString())


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def put(models: Path, version: str, content: bytes) -> None:
    """Lay a version as download() does, and name it champion."""
    (models / version).mkdir(parents=True)
    (models / version / "model.onnx").write_bytes(content)
    (models / "champion").unlink(missing_ok=True)
    (models / "champion").symlink_to(version)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with version 1 as champion."""
    put(tmp_path / "models", "1", graph())
    return tmp_path / "models"


@pytest.fixture
def api(learner, models):
    """A client of the learner's application, which is ready, without a network."""
    from fastapi.testclient import TestClient

    with hint(
        "The application must load the model of its folder in `lifespan`, and GET /health/ready answer 200 then.",
        "애플리케이션은 `lifespan`에서 폴더의 모델을 불러와야 하고, 그다음 GET /health/ready는 200으로 응답해야 합니다.",
    ):
        client = TestClient(learner.app.create_app(models / "champion"))
        client.__enter__()
        assert eventually(lambda: client.get("/health/ready").status_code != 503, 20)
        assert client.get("/health/ready").status_code == 200
    yield client
    client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def register(mlflow_server, tmp_path_factory):
    """Registers a file as the next version of a model, and gives it the alias champion."""
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_server)
    experiment = client.create_experiment(uuid4().hex)

    def register(name: str, content: bytes) -> str:
        file = tmp_path_factory.mktemp("model") / "model.onnx"
        file.write_bytes(content)
        run = client.create_run(experiment).info.run_id
        client.log_artifact(run, str(file), "model")
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        version = client.create_model_version(name, f"runs:/{run}/model", run).version
        client.set_registered_model_alias(name, "champion", version)
        return str(version)

    return register


def test_a_loaded_model_names_the_species(learner, models):
    with hint(
        "predict() must give one name of SPECIES for each row, whatever the order of its keys.",
        "predict()는 키의 순서와 관계없이 행마다 SPECIES의 이름을 하나씩 내놓아야 합니다.",
    ):
        champion = learner.champion.load(models / "champion")
        shuffled = dict(sorted(VIRGINICA.items()))
        named = learner.champion.predict(champion, [SETOSA, VERSICOLOR, shuffled])
        assert named == ["setosa", "versicolor", "virginica"]
    with hint(
        "predict() of no rows must give an empty list: reshape(-1, 4) makes 0 x 4 of an empty array.",
        "행이 없으면 predict()는 빈 리스트를 내놓아야 합니다. reshape(-1, 4)는 빈 배열을 0 x 4로 만듭니다.",
    ):
        assert learner.champion.predict(champion, []) == []


def test_the_version_is_that_of_the_folder_behind_the_alias(learner, models):
    with hint(
        "load() must follow the link once: folder.resolve(), whose name is the version.",
        "load()는 링크를 한 번만 따라가야 합니다. folder.resolve()의 이름이 버전입니다.",
    ):
        assert learner.champion.load(models / "champion").version == "1"


@pytest.mark.parametrize(
    "content",
    [None, b"no model at all", graph()[:100], graph(width=3)],
    ids=["missing", "broken", "cut_off", "cannot_answer"],
)
def test_a_model_that_does_not_answer_is_not_loaded(learner, tmp_path, content):
    with hint(
        "load() must raise ModelError for a file that is missing or broken, and for a model that fails at EXAMPLE.",
        "load()는 파일이 없거나 손상되었거나 모델이 EXAMPLE에 답하지 못하면 ModelError를 일으켜야 합니다.",
    ):
        if content is not None:
            put(tmp_path, "1", content)
        with pytest.raises(learner.champion.ModelError):
            learner.champion.load(tmp_path / "champion")


def test_download_brings_the_version_that_the_alias_names(
    learner, mlflow_server, register, tmp_path
):
    download, models, name = learner.champion.download, tmp_path / "models", uuid4().hex
    with hint(
        "download() must lay models/1, link models/champion to it, and follow the alias when it has moved to 2.",
        "download()는 models/1을 만들고 models/champion을 거기에 연결하며, 별칭이 2로 옮겨지면 따라가야 합니다.",
    ):
        register(name, graph())
        assert download(mlflow_server, name, "champion", models) == "1"
        assert learner.champion.load(models / "champion").version == "1"
        assert download(mlflow_server, name, "champion", models) == "1"
        register(name, graph(bias=(0, 0, 99)))
        assert download(mlflow_server, name, "champion", models) == "2"
        champion = learner.champion.load(models / "champion")
        assert champion.version == "2"
        assert learner.champion.predict(champion, [SETOSA]) == ["virginica"]
        assert names(models) == ["1", "2", "champion"]
    with hint(
        "Another user must be able to read models, wherever it is mounted: let the link name the version alone (`2`, for it is "
        "sought from where the link lies), and rename a folder in the TemporaryDirectory, which itself is readable to you alone.",
        "models는 어디에 마운트되든 다른 사용자가 읽을 수 있어야 합니다. 링크에는 버전만(`2`) 적고(링크가 있는 폴더에서부터 찾습니다), "
        "TemporaryDirectory 자체는 본인만 읽을 수 있으므로 그 안의 폴더의 이름을 바꾸십시오.",
    ):
        mounted = models.rename(tmp_path / "elsewhere")
        assert learner.champion.load(mounted / "champion").version == "2"
        others = 0o005 & mounted.stat().st_mode
        assert (mounted / "2").stat().st_mode & 0o005 == others


def test_a_broken_model_does_not_take_the_place_of_the_champion(
    learner, mlflow_server, register, tmp_path
):
    download, models, name = learner.champion.download, tmp_path / "models", uuid4().hex
    with hint(
        "download() must load() what it has downloaded before it gives it its name, and leave nothing behind.",
        "download()는 내려받은 것에 이름을 붙이기 전에 load()로 확인하고, 아무것도 남기지 않아야 합니다.",
    ):
        register(name, graph())
        download(mlflow_server, name, "champion", models)
        register(name, graph()[:100])
        with pytest.raises(learner.champion.ModelError):
            download(mlflow_server, name, "champion", models)
        assert learner.champion.load(models / "champion").version == "1"
        assert names(models) == ["1", "champion"]


def test_without_a_registry_the_command_ends_with_a_sentence(program, models, port):
    ended = program(
        "champion.py",
        MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        MODELS=str(models),
    )
    with hint(
        "Where no registry answers, `python champion.py` must end with status 1 and a sentence that has its URL, without a traceback.",
        "레지스트리가 응답하지 않으면 `python champion.py`는 URL이 든 문장과 상태 1로, 트레이스백 없이 끝나야 합니다.",
    ):
        assert ended.ends() == 1
        *before, last = ended.output.strip().splitlines()
        assert f"127.0.0.1:{port}" in last
        assert not any("Traceback" in line for line in before)
        assert (models / "champion").readlink() == Path("1")


def test_a_flower_is_answered_with_species_and_version(api):
    with hint(
        'POST /predict must answer 200 with {"species": …, "version": …}.',
        'POST /predict는 200과 {"species": …, "version": …}으로 응답해야 합니다.',
    ):
        found = api.post("/predict", json=VIRGINICA)
        assert (found.status_code, found.json()) == (200, {"species": "virginica", "version": "1"})
        assert api.post("/predict", json=SETOSA).json()["species"] == "setosa"


@pytest.mark.parametrize(
    "body",
    [
        SETOSA | {"petal_width": "wide"},
        SETOSA | {"petal_width": -1},
        SETOSA | {"petal_width": 31},
        SETOSA | {"colour": "red"},
        {"petal_width": 0.2},
        [SETOSA],
    ],
    ids=["text", "negative", "a_giant", "unknown_field", "missing_fields", "a_list"],
)
def test_a_wrong_body_is_refused(api, body):
    with hint(
        f"{json.dumps(body)[:60]} must be answered with 422: say in Flower what a length may be, and forbid others.",
        f"{json.dumps(body)[:60]}에는 422로 응답해야 합니다. Flower에 길이의 범위를 적고 다른 필드는 금지하십시오.",
    ):
        assert api.post("/predict", json=body).status_code == 422


def test_the_model_is_loaded_once_and_not_for_each_request(api, models):
    with hint(
        "The loaded model must go on answering when its file is gone: load in `lifespan`, not in the route.",
        "파일이 없어져도 불러온 모델은 계속 응답해야 합니다. 경로가 아니라 `lifespan`에서 불러오십시오.",
    ):
        shutil.rmtree(models)
        found = api.post("/predict", json=SETOSA)
        assert (found.status_code, found.json()) == (200, {"species": "setosa", "version": "1"})


def test_a_server_without_a_model_lives_and_is_not_ready_until_there_is_one(
    program, port, tmp_path
):
    import httpx

    url = f"http://127.0.0.1:{port}"
    with hint(
        "Without a model, live must answer 200, ready and predict 503 with Retry-After; once it is there, ready 200. Load beside, in a task.",
        "모델이 없으면 live는 200, ready와 predict는 Retry-After와 함께 503으로, 모델이 생기면 ready는 200으로 응답해야 합니다. 태스크에서 불러오십시오.",
    ):
        running = program("app.py", MODELS=str(tmp_path), PORT=str(port))
        running.until(lambda: answers(f"{url}/health/live"))
        for found in (httpx.get(f"{url}/health/ready"), httpx.post(f"{url}/predict", json=SETOSA)):
            assert found.status_code == 503
            assert found.headers["Retry-After"]
        put(tmp_path, "3", graph())
        running.until(lambda: answers(f"{url}/health/ready"))
        assert httpx.get(f"{url}/health/ready").json() == {"status": "ready", "version": "3"}
        assert httpx.post(f"{url}/predict", json=SETOSA).json()["version"] == "3"


@pytest.mark.parametrize("content", [b"no model", graph(width=3)], ids=["broken", "cannot_answer"])
def test_a_server_with_a_model_that_does_not_answer_says_why_it_is_not_ready(
    learner, program, port, tmp_path, content
):
    import httpx

    put(tmp_path, "1", content)
    url = f"http://127.0.0.1:{port}"
    with hint(
        "Whatever load() says must be the `detail` of ready's 503, while live answers 200.",
        "ready의 503에는 load()의 오류가 `detail`로 들어 있어야 하고, live는 200으로 응답해야 합니다.",
    ):
        running = program("app.py", MODELS=str(tmp_path), PORT=str(port))
        running.until(lambda: answers(f"{url}/health/live"))

        def is_told() -> bool:
            found = httpx.get(f"{url}/health/ready")
            assert found.status_code == 503
            return found.json()["detail"] != learner.app.Serving().obstacle

        running.until(is_told)
        assert answers(f"{url}/health/live")


def test_a_server_that_waits_for_its_model_ends_in_order(program, port, tmp_path):
    with hint(
        "`python app.py` must end at SIGTERM although no model has come: cancel the task after `yield`.",
        "모델이 오지 않았어도 `python app.py`는 SIGTERM에 끝나야 합니다. `yield` 다음에서 태스크를 취소하십시오.",
    ):
        running = program("app.py", MODELS=str(tmp_path), PORT=str(port))
        running.until(lambda: answers(f"http://127.0.0.1:{port}/health/live"))
        running.stop(signal.SIGTERM)
        assert running.ends() in (0, -signal.SIGTERM)


def begin_request(port: int) -> tuple[socket.socket, bytes]:
    """Send half a request, and see that the application waits for the other half."""
    body = json.dumps(VIRGINICA).encode()
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(head.encode() + body[:10])
    assert b"100 Continue" in connection.recv(1000)
    return connection, body[10:]


def is_closed(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return True
    return False


def test_a_request_under_way_is_answered_after_sigterm(program, port, models):
    with hint(
        "After SIGTERM the server takes no new connection, answers what is under way, and ends: uvicorn.run() does it.",
        "SIGTERM 다음에 서버는 새 연결을 받지 않고, 처리 중인 요청에 응답한 뒤 끝나야 합니다. uvicorn.run()이 그렇게 합니다.",
    ):
        running = program("app.py", MODELS=str(models), PORT=str(port), GRACE_SECONDS="30")
        running.until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        connection, rest = begin_request(port)
        running.stop(signal.SIGTERM)
        running.until(lambda: is_closed(port))
        connection.sendall(rest)
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
        assert b" 200 OK" in answer
        assert b"virginica" in answer
        assert running.ends() in (0, -signal.SIGTERM)


def test_a_request_that_never_ends_does_not_hold_the_end(program, port, models):
    with hint(
        "After GRACE_SECONDS the server must end with requests open: timeout_graceful_shutdown of uvicorn.",
        "GRACE_SECONDS가 지나면 열린 요청이 있어도 서버가 끝나야 합니다. uvicorn의 timeout_graceful_shutdown을 쓰십시오.",
    ):
        running = program("app.py", MODELS=str(models), PORT=str(port), GRACE_SECONDS="1")
        running.until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        connection, _ = begin_request(port)
        running.stop(signal.SIGTERM)
        assert running.ends() in (0, -signal.SIGTERM)
        connection.close()


class Scripted(ThreadingHTTPServer):
    """Answers with one status after the other, the last one again and again; None hangs up."""

    daemon_threads = True

    def __init__(self, *script: int | None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), ScriptedHandler)
        self.script = list(script)
        self.asked = 0
        self.url = f"http://127.0.0.1:{self.server_port}"
        Thread(target=self.serve_forever, daemon=True).start()


class ScriptedHandler(BaseHTTPRequestHandler):
    server: Scripted

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        script = self.server.script
        status = script[min(self.server.asked, len(script) - 1)]
        self.server.asked += 1
        if status is None:
            return
        found = {"species": "setosa", "version": "1"} if status == 200 else {"detail": "no"}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, *_) -> None:
        """Be silent."""


@pytest.mark.parametrize(
    "script",
    [(503, 503, 200), (429, 200), (502, 504, 200), (None, None, 200)],
    ids=["not_ready", "too_many", "a_gateway", "hung_up"],
)
def test_the_client_asks_again_for_what_passes(learner, script):
    server = Scripted(*script)
    with hint(
        f"After {script[:-1]} (None is a connection that breaks) the client must ask again, and give the answer.",
        f"{script[:-1]} 다음에(None은 끊긴 연결입니다) 클라이언트는 다시 요청해 답을 내놓아야 합니다.",
    ):
        assert learner.client.ask(server.url, SETOSA) == {"species": "setosa", "version": "1"}
        assert server.asked == len(script)


def test_the_client_waits_for_a_server_that_starts(learner, port):
    Timer(0.5, lambda: Scripted(200, port=port)).start()
    with hint(
        "A connection that is refused must be tried again: httpx.NetworkError.",
        "거절된 연결은 다시 시도해야 합니다. httpx.NetworkError를 보십시오.",
    ):
        assert learner.client.ask(f"http://127.0.0.1:{port}", SETOSA)["species"] == "setosa"


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500])
def test_what_will_not_pass_is_not_asked_again(learner, status):
    import httpx

    server = Scripted(status, 200)
    with hint(
        f"{status} will be the same next time: the client must raise the error and not ask again.",
        f"{status}는 다시 요청해도 같습니다. 클라이언트는 다시 요청하지 말고 오류를 일으켜야 합니다.",
    ):
        with pytest.raises(httpx.HTTPStatusError):
            learner.client.ask(server.url, SETOSA)
        assert server.asked == 1


def test_the_patience_of_the_client_ends(learner):
    import httpx

    server = Scripted(503)
    with hint(
        "When `patience` is over, ask() must raise the last error, after more than one attempt.",
        "`patience`가 지나면 ask()는 두 번 이상 시도한 뒤 마지막 오류를 일으켜야 합니다.",
    ):
        with pytest.raises(httpx.HTTPStatusError):
            learner.client.ask(server.url, SETOSA, patience=1)
        assert server.asked > 1


def test_the_image_holds_what_the_server_needs(dockerfile: str):
    with hint(
        "The image needs both files, a user of its own, HOST=0.0.0.0, and CMD as a list: a shell would keep SIGTERM to itself.",
        "이미지에는 두 파일, 별도의 사용자, HOST=0.0.0.0, 리스트로 쓴 CMD가 필요합니다. 셸은 SIGTERM을 전달하지 않습니다.",
    ):
        assert not_copied(dockerfile, "champion.py", "app.py") == []
        for wanted in ("\nUSER ", "0.0.0.0"):
            assert wanted in dockerfile
        *_, last = re.findall(r"^(?:CMD|ENTRYPOINT) (.+)$", dockerfile, re.M)
        assert last.startswith("[")


def test_compose_starts_the_server_without_waiting_for_the_registry(services):
    with hint(
        "download waits until mlflow is healthy, api for nobody: it is not ready until its model is there.",
        "download는 mlflow가 정상이 될 때까지 기다리고, api는 기다리지 않습니다. 모델이 생길 때까지 준비되지 않을 뿐입니다.",
    ):
        assert {"mlflow", "download", "api"} <= services.keys()
        assert services["download"]["depends_on"]["mlflow"]["condition"] == "service_healthy"
        assert services["api"]["depends_on"] == {}
    with hint(
        "The image of mlflow has no curl, so its health check asks /health by Python; and in download, localhost would be "
        "download itself: the registry is http://mlflow:5000.",
        "mlflow 이미지에는 curl이 없으므로 헬스 체크는 Python으로 /health를 확인합니다. download에서 localhost는 download 자신이므로 "
        "레지스트리는 http://mlflow:5000입니다.",
    ):
        asked = str(services["mlflow"]["healthcheck"]["test"])
        assert "/health" in asked
        assert "curl" not in asked
        assert "mlflow:5000" in services["download"]["environment"]["MLFLOW_TRACKING_URI"]
    with hint(
        "api reads the volume models and does not write it, is published on 127.0.0.1, and is stopped after GRACE_SECONDS.",
        "api는 models 볼륨을 읽기만 하고, 127.0.0.1에 공개되며, GRACE_SECONDS보다 늦게 중지되어야 합니다.",
    ):
        api = services["api"]
        assert api["ports"] == ["127.0.0.1:8000:8000"]
        assert any(one.startswith("models:") and one.endswith(":ro") for one in api["volumes"])
        minutes, seconds = re.fullmatch(
            r"(?:(\d+)m)?(?:(\d+)s)?", api["stop_grace_period"]
        ).groups()
        assert 60 * int(minutes or 0) + int(seconds or 0) > 10


def test_the_kedro_node_scores_a_file_by_the_same_function(learner, typed, models, work: Path):
    import pandas as pd

    rows = pd.DataFrame([SETOSA, VERSICOLOR, VIRGINICA]).assign(target=[0, 1, 2])
    with hint(
        "score() must give all rows and their columns, with species and version, however many rows at once.",
        "score()는 한 번에 몇 행씩이든 모든 행과 열에 species와 version을 더해 내놓아야 합니다.",
    ):
        champion = learner.champion.load(models / "champion")
        for rows_at_once in (1, 2, 50):
            scored = learner.kedro_scoring.score(rows, champion, rows_at_once)
            assert list(scored.columns) == [*rows.columns, "species", "version"]
            assert list(scored["species"]) == ["setosa", "versicolor", "virginica"]
            assert set(scored["version"]) == {"1"}
        typed("kedro_scoring.py", MODELS=str(models))
        assert len(pd.read_csv(work / "scored.csv")) == 150
