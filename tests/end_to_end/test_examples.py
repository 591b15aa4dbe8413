"""Each shipped environment: the whole line, its own table and release, the API, a prediction.

They share one project, one database and one MLflow store, as a person's environments would.
"""

import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pandas as pd
import pytest
import yaml

from mlops_for_mle.contract import Contract
from mlops_for_mle.paths import project_path
from tests.end_to_end.api import predict, served
from tests.end_to_end.commands import Project

pytestmark = pytest.mark.end_to_end

WINE = {
    "alcohol": 14.23,
    "malic_acid": 1.71,
    "ash": 2.43,
    "alcalinity_of_ash": 15.6,
    "magnesium": 127,
    "total_phenols": 2.8,
    "flavanoids": 3.06,
    "nonflavanoid_phenols": 0.28,
    "proanthocyanins": 2.29,
    "color_intensity": 5.64,
    "hue": 1.04,
    "od280/od315_of_diluted_wines": 3.92,
    "proline": 1065,
}
PERSON = dict.fromkeys(("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"), 0.0)
SUBSCRIBER = {
    "나이": 41,
    "성별": "여",
    "지역": "서울",
    "요금제": "스탠다드",
    "월 요금": 13_500,
    "할인율": 0,
    "자동결제": True,
    "가입일": "2023-04-01",
    "마지막 접속": "2026-06-30T09:00:00",
    "월 시청시간": 42.0,
    "문의 횟수": 0,
}
IDLE_SUBSCRIBER = SUBSCRIBER | {
    "자동결제": False,
    "마지막 접속": "2026-04-05T09:00:00",
    "월 시청시간": 0.0,
    "문의 횟수": 5,
}


@pytest.fixture(scope="module", autouse=True)
def all_environments_ran(project: Project) -> dict[str, str]:
    """What `kedro run --env` said of each example."""
    raw = project.folder / "data/01_raw"
    raw.mkdir(parents=True, exist_ok=True)
    shutil.copy(project_path() / "data/01_raw/subscriptions.csv", raw)
    examples = ("wine", "diabetes", "subscriptions")
    return {env: project.succeed("run", "--env", env).output for env in examples}


@pytest.mark.parametrize(
    ("env", "rows", "metric"),
    [
        ("wine", 178, "macro_f1 0.9"),
        ("diabetes", 442, "rmse 5"),
        ("subscriptions", 600, "balanced_accuracy 0.7"),
    ],
)
def test_the_whole_line_runs_into_a_table_and_a_release_of_its_own(
    all_environments_ran: dict[str, str], env: str, rows: int, metric: str
) -> None:
    said = all_environments_ran[env]

    assert f"{rows} in {env}_data, 0 rejected" in said
    assert f"validation {metric}" in said
    assert f"{env}-v1-" in said
    assert f"kedro serve --env {env}" in said


def test_all_of_them_live_side_by_side(project: Project) -> None:
    deployed = project.query("SELECT contract, model_version FROM deployments ORDER BY contract")
    assert deployed == [("diabetes", 1), ("subscriptions", 1), ("wine", 1)]
    for env in ("wine", "diabetes"):
        assert f"{env}-v1-" in project.succeed("model", "list", "--env", env).output


@pytest.fixture(scope="module")
def subscriptions(project: Project) -> Iterator[httpx.Client]:
    """The API of the example with columns of every kind."""
    with served(project, "--env", "subscriptions") as client:
        yield client


@pytest.mark.parametrize(
    ("row", "answer", "label"),
    [
        (SUBSCRIBER, "아니오", "유지"),
        (IDLE_SUBSCRIBER, "예", "해지"),
        (SUBSCRIBER | {"지역": "울릉도", "나이": None, "마지막 접속": None}, "아니오", "유지"),
    ],
    ids=["loyal", "idle", "of unknown region, age and last visit"],
)
def test_a_subscriber_is_predicted(
    subscriptions: httpx.Client, row: dict[str, Any], answer: str, label: str
) -> None:
    found = predict(subscriptions, row)

    assert (found["해지"], found["label"]) == (answer, label)
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_a_category_never_seen_is_refused_in_one_sentence(subscriptions: httpx.Client) -> None:
    answer = subscriptions.post("/predict", json=SUBSCRIBER | {"요금제": "골드"})

    assert answer.status_code == 422
    assert "골드" in answer.text
    assert "베이직" in answer.text


def test_a_wine_is_predicted(project: Project) -> None:
    with served(project, "--env", "wine") as client:
        found = predict(client, WINE)

    assert (found["grower"], found["label"]) == (0, "first")
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_the_course_of_a_disease_is_predicted(project: Project) -> None:
    with served(project, "--env", "diabetes") as client:
        usual = predict(client, PERSON)["progression"]
        heavy = predict(client, PERSON | {"bmi": 0.15})["progression"]

    assert 140 < usual < 165
    assert heavy > usual + 40


COUNTS = """
SELECT (SELECT count(*) FROM {env}_data), (SELECT count(*) FROM {env}_prediction),
       (SELECT count(*) FROM scoring_queue), (SELECT count(*) FROM scoring_rejects)
"""


@pytest.mark.parametrize("env", ["wine", "diabetes", "subscriptions"])
def test_each_is_monitored_and_scored_without_a_line_of_code(project: Project, env: str) -> None:
    path = project.folder / f"conf/{env}/contract.yml"
    contract = Contract.model_validate(yaml.safe_load(path.read_text("utf-8"))["contract"])
    with served(project, "--env", env) as client:
        rows = client.get("/observations", params={"limit": 120}).json()["observations"]
        given = [{name: row[name] for name in contract.features} for row in rows]
        for row, answer in zip(rows, predict(client, given), strict=True):
            body = {
                "prediction_id": answer["prediction_id"],
                "label": row[contract.target.column],
            }
            told = client.post("/feedback", json=body)
            assert told.status_code < 300, told.text

    said = project.succeed("run", "--env", env, "--pipeline", "monitoring").output
    assert ", 120 with a true label" in said
    assert "insufficient" not in said
    assert "missing" not in said

    project.succeed("score", "--env", env, "--from-start")
    ((row_count, scored, waiting, rejected),) = project.query(COUNTS.format(env=env))
    assert (scored, waiting, rejected) == (row_count, 0, 0)

    project.succeed("run", "--env", env, "--pipeline", "scoring")
    output = project.folder / f"data/{env}/07_model_output/predictions.parquet"
    assert len(pd.read_parquet(output)) == row_count
