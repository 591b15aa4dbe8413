"""What the programs of part 3 must do: log, register, load back, and only then name a champion."""

import re
from pathlib import Path
from uuid import uuid4

import pytest

from course.hints import hint

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


@pytest.fixture
def client(mlflow_server, monkeypatch):
    """MLflow's own client; the learner's functions use the same server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    yield mlflow.MlflowClient()
    # A run that the learner has left open would be that of the next check, too.
    while mlflow.active_run():
        mlflow.end_run("KILLED")


@pytest.fixture
def name():
    """The name of a registered model that nobody else uses."""
    return f"iris_{uuid4().hex[:8]}"


@pytest.fixture
def rows(learner, work: Path):
    """The rows to learn from, and those to validate on."""
    return learner.data.hash_split(learner.data.read_csv(work / "iris.csv"), 0.25)


@pytest.fixture
def save(learner, client, rows, name):
    """Logs a run with the learner's program and registers it; gives the version's number."""

    def registered(c: float = 1.0) -> int:
        return learner.save_model_to_registry.register(
            learner.save_model_to_registry.log_run(*rows, c), name
        )

    return registered


def run_of(client, name, version):
    return client.get_run(client.get_model_version(name, str(version)).run_id)


def champion_of(client, name):
    return client.get_registered_model(name).aliases.get("champion")


def test_a_run_says_what_was_chosen_and_what_came_out(client, save, name, rows):
    with hint(
        "The run needs the parameters C and training_rows, the metric accuracy, and validation.csv as an artifact.",
        "실행에는 매개변수 C와 training_rows, 지표 accuracy, 아티팩트 validation.csv가 필요합니다.",
    ):
        run = run_of(client, name, save(2.0))
        assert {"C": "2.0", "training_rows": str(len(rows[0]))}.items() <= run.data.params.items()
        assert 0.9 < run.data.metrics["accuracy"] <= 1
        assert "validation.csv" in [one.path for one in client.list_artifacts(run.info.run_id)]
        assert run.info.status == "FINISHED"


def test_a_training_that_fails_leaves_a_run_that_failed(learner, client, rows, monkeypatch):
    training = rows[0][rows[0]["target"] == 0]
    experiment = client.create_experiment(uuid4().hex)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    with hint(
        "Training failed inside of a run, which must then be FAILED: use `with mlflow.start_run():` around all of it.",
        "실행 안에서 학습이 실패하면 그 실행은 FAILED여야 합니다. 전체를 `with mlflow.start_run():`으로 감싸십시오.",
    ):
        with pytest.raises(ValueError, match="class"):
            learner.save_model_to_registry.log_run(training, rows[1], 1.0)
        assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]


def test_the_signature_names_each_feature_and_its_type(save, name):
    import mlflow

    with hint(
        "Give log_model a signature: infer_signature(training[FEATURES], the model's answers).",
        "log_model에 시그니처를 주십시오: infer_signature(training[FEATURES], 모델의 응답).",
    ):
        signature = mlflow.models.get_model_info(f"models:/{name}/{save()}").signature
        assert signature is not None, "signature=None"
        assert signature.inputs.input_names() == FEATURES
        assert {one.name for one in signature.inputs.input_types()} == {"double"}
        assert signature.outputs is not None


def test_the_model_brings_along_what_it_needs(save, name):
    import mlflow

    with hint(
        "Give log_model pip_requirements=REQUIREMENTS: exact versions, so that another machine can load it.",
        "log_model에 pip_requirements=REQUIREMENTS를 주십시오. 정확한 버전이 있어야 다른 컴퓨터에서 불러올 수 있습니다.",
    ):
        path = mlflow.artifacts.download_artifacts(f"models:/{name}/{save()}/requirements.txt")
        assert re.search(r"^scikit-learn==\d", Path(path).read_text("utf-8"), re.M)


def test_each_registration_is_a_version_of_its_own(client, save, name):
    with hint(
        "register() must give 1, then 2, and each version must know its run.",
        "register()는 1, 그다음 2를 돌려주고, 각 버전은 자신의 실행을 알아야 합니다.",
    ):
        assert [save(), save(3.0)] == [1, 2]
        assert [run_of(client, name, one).data.params["C"] for one in (1, 2)] == ["1.0", "3.0"]


def test_a_number_or_an_alias_leads_to_a_version(learner, client, save, name):
    with hint(
        "resolve() must give 2 for '2', the version of the alias for 'blue', and raise for an unknown alias.",
        "resolve()는 '2'에 2를, 'blue'에 그 별칭의 버전을 돌려주고, 없는 별칭이면 예외를 일으켜야 합니다.",
    ):
        from mlflow import MlflowException

        save()
        client.set_registered_model_alias(name, "blue", "1")
        assert [learner.registry.resolve(name, one) for one in ("2", "blue")] == [2, 1]
        with pytest.raises(MlflowException):
            learner.registry.resolve(name, "rose")


def test_a_loaded_model_refuses_what_does_not_fit(learner, save, name, rows):
    with hint(
        "load() must give the model by mlflow.pyfunc.load_model, which checks names and types and puts columns in order. "
        "It needs the signature for that (step 3).",
        "load()는 mlflow.pyfunc.load_model로 불러와야 합니다. 이름과 타입을 검사하고 열을 순서대로 맞춥니다. "
        "그러려면 시그니처가 있어야 합니다(3단계).",
    ):
        from mlflow import MlflowException

        model = learner.registry.load(name, save())
        features = rows[1][FEATURES]
        answers = model.predict(features[FEATURES[::-1]])
        assert list(answers) == list(model.predict(features))
        for wrong in (features.astype({"petal_width": str}), features[FEATURES[:3]]):
            with pytest.raises(MlflowException):
                model.predict(wrong)


def test_a_good_first_version_becomes_champion(learner, client, save, name):
    with hint(
        "promote() must set the alias champion, give `promoted: ...`, and write the same into the tag decision.",
        "promote()는 별칭 champion을 정하고 `promoted: ...`를 돌려주며, 같은 글을 태그 decision에 적어야 합니다.",
    ):
        version = save()
        decision = learner.registry.promote(name, version)
        assert decision.startswith("promoted: ")
        assert champion_of(client, name) == "1"
        assert client.get_model_version(name, "1").tags["decision"] == decision


def test_a_version_below_the_threshold_is_no_champion(learner, client, save, name):
    with hint(
        "A version with too low an accuracy must be rejected, even where there is no champion yet; it stays in the registry, "
        "and its tag decision says why.",
        "정확도가 너무 낮은 버전은 아직 챔피언이 없어도 거부해야 합니다. 버전은 레지스트리에 남고, 태그 decision에 그 이유가 있어야 합니다.",
    ):
        version = save(0.01)
        assert learner.registry.promote(name, version).startswith("rejected: ")
        assert champion_of(client, name) is None
        assert client.get_model_version(name, "1").tags["decision"].startswith("rejected: ")


def test_a_worse_version_leaves_the_champion_where_it_is(learner, client, save, name):
    with hint(
        "A version that is worse than the champion on the same rows must be rejected: measure the champion, too, for "
        "what its run recorded is of other rows.",
        "같은 행에서 챔피언보다 나쁜 버전은 거부해야 합니다. 챔피언의 실행이 기록한 값은 다른 행의 것이므로 챔피언도 다시 "
        "측정하십시오.",
    ):
        assert learner.registry.promote(name, save()).startswith("promoted: ")
        client.log_metric(run_of(client, name, 1).info.run_id, "accuracy", 0)
        worse = save(0.01)
        assert learner.registry.promote(name, worse, least=0.1).startswith("rejected: ")
        assert champion_of(client, name) == "1"


def test_a_model_that_is_not_what_its_run_measured_gets_no_alias(learner, client, save, name):
    with hint(
        "Here the run has recorded 0.85 and the loaded model has another accuracy: promote() must raise ValueError "
        "before it sets the alias.",
        "여기서 실행은 0.85를 기록했지만 불러온 모델의 정확도는 다릅니다. promote()는 별칭을 정하기 전에 "
        "ValueError를 일으켜야 합니다.",
    ):
        version = save()
        client.log_metric(run_of(client, name, version).info.run_id, "accuracy", 0.85)
        with pytest.raises(ValueError, match=r"\w"):
            learner.registry.promote(name, version)
        assert champion_of(client, name) is None


def test_a_model_that_cannot_be_loaded_gets_no_alias(
    learner, client, name, rows, tmp_path, monkeypatch
):
    with hint(
        "promote() must load the version back before it sets the alias: this one has no file.",
        "promote()는 별칭을 정하기 전에 버전을 다시 불러와야 합니다. 이 버전에는 파일이 없습니다.",
    ):
        from mlflow import MlflowException

        info = learner.save_model_to_registry.log_run(*rows, 1.0)
        client.create_registered_model(name)
        # A version like any other, whose files have been lost since.
        client.create_model_version(name, f"runs:/{info.run_id}/lost", info.run_id)
        with pytest.raises((MlflowException, OSError)):
            learner.registry.promote(name, 1)
        assert champion_of(client, name) is None


def test_the_programs_save_and_load(learner, client, typed, tmp_path, capsys):
    bad = tmp_path / "bad.csv"
    bad.write_text(f"{','.join(FEATURES)},target\nlong,3.5,1.4,0.2,0\n", "utf-8")
    with hint(
        "save_model_to_registry.py must save and promote; load_model_from_registry.py must print "
        "`Version N answers [...]`, and raise SystemExit with a sentence where something does not fit.",
        "save_model_to_registry.py는 저장하고 승격해야 합니다. load_model_from_registry.py는 "
        "`Version N answers [...]`를 출력하고, 맞지 않는 것이 있으면 문장과 함께 SystemExit를 일으켜야 합니다.",
    ):
        typed("save_model_to_registry.py")
        assert "promoted: " in capsys.readouterr().out
        load = learner.load_model_from_registry.main
        load(["champion", "iris.csv"])
        (number, answers), *_ = re.findall(
            r"Version (\d+) answers \[(.+)\]", capsys.readouterr().out
        )
        champion = champion_of(client, learner.registry.MODEL)
        assert (number, len(answers.split(","))) == (str(champion), 150)
        with pytest.raises(SystemExit, match="rose"):
            load(["rose", "iris.csv"])
        with pytest.raises(SystemExit, match=r"sepal_length|long"):
            load(["champion", str(bad)])


def test_no_store_is_made_where_no_server_is_named(learner, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with hint(
        "Without MLFLOW_TRACKING_URI, load_model_from_registry.py must end with a sentence: call require_server() first.",
        "MLFLOW_TRACKING_URI가 없으면 load_model_from_registry.py는 문장과 함께 끝나야 합니다. require_server()를 먼저 호출하십시오.",
    ):
        with pytest.raises(SystemExit, match="MLFLOW_TRACKING_URI"):
            learner.load_model_from_registry.main(["champion", "iris.csv"])
        assert list(tmp_path.iterdir()) == []


def test_the_image_holds_what_the_server_needs(dockerfile: str):
    with hint(
        "The image needs mlflow, psycopg2-binary for Postgres and boto3 for S3, a user of its own, and a server on 0.0.0.0.",
        "이미지에는 mlflow, Postgres를 위한 psycopg2-binary, S3를 위한 boto3, 별도의 사용자, 0.0.0.0에서 요청을 받는 서버가 필요합니다.",
    ):
        for wanted in ("mlflow==", "psycopg2-binary", "boto3", "\nUSER ", "0.0.0.0"):
            assert wanted in dockerfile


def test_compose_keeps_rows_in_postgres_and_files_in_s3(services):
    with hint(
        "mlflow needs MLFLOW_BACKEND_STORE_URI at postgres:5432, MLFLOW_ARTIFACTS_DESTINATION s3://mlflow and the login of S3; "
        "it must wait for the database (service_healthy) and the bucket (service_completed_successfully).",
        "mlflow에는 postgres:5432의 MLFLOW_BACKEND_STORE_URI, s3://mlflow인 MLFLOW_ARTIFACTS_DESTINATION, S3의 로그인이 필요합니다. "
        "데이터베이스(service_healthy)와 버킷(service_completed_successfully)도 기다려야 합니다.",
    ):
        server = services["mlflow"]
        variables, waits = server["environment"], server["depends_on"]
        assert "psycopg2" in variables["MLFLOW_BACKEND_STORE_URI"]
        assert re.search(r"@postgres(:5432)?/", variables["MLFLOW_BACKEND_STORE_URI"])
        assert re.match("s3://mlflow(/|$)", variables["MLFLOW_ARTIFACTS_DESTINATION"])
        assert variables["AWS_ACCESS_KEY_ID"] == "mlflow"
        assert waits["postgres"]["condition"] == "service_healthy"
        assert waits["bucket"]["condition"] == "service_completed_successfully"
        assert services["bucket"]["depends_on"]["s3"]["condition"] == "service_healthy"


def test_compose_opens_the_registry_to_this_machine_only(services):
    server = services["mlflow"]
    with hint(
        "Publish 127.0.0.1:5000:5000, and allow the host names mlflow:5000 and localhost: anybody who reaches it may change the champion.",
        "127.0.0.1:5000:5000으로 공개하고 호스트 이름 mlflow:5000과 localhost를 허용하십시오. 접속할 수 있으면 누구나 챔피언을 바꿀 수 있습니다.",
    ):
        assert server["ports"] == ["127.0.0.1:5000:5000"]
        assert "mlflow:5000" in server["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"]


def test_the_kedro_pipeline_logs_and_registers(learner, client, work, monkeypatch):
    import mlflow

    monkeypatch.chdir(work)
    with hint(
        "kedro_registry.py must log accuracy and validation.csv and register part3_kedro with a signature, by catalog.yml alone.",
        "kedro_registry.py는 catalog.yml만으로 accuracy와 validation.csv를 기록하고 part3_kedro를 시그니처와 함께 등록해야 합니다.",
    ):
        learner.kedro_registry.main()
        run = run_of(client, "part3_kedro", 1)
        assert run.data.params["c"] == "1.0"
        assert run.data.metrics["accuracy"] > 0.9
        assert "validation.csv" in [one.path for one in client.list_artifacts(run.info.run_id)]
        signature = mlflow.models.get_model_info("models:/part3_kedro/1").signature
        assert signature is not None, "signature=None"
        assert learner.registry.promote("part3_kedro", 1).startswith("promoted: ")
