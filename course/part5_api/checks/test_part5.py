"""What the API of part 5 must answer, to requests that fit and to those that do not."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from course.conftest import answers, not_copied
from course.hints import hint

FLOWER = {
    "tag": "a1",
    "sepal_length": 5.1,
    "sepal_width": 3.5,
    "petal_length": 1.4,
    "petal_width": 0.2,
    "species": "setosa",
}


NOTHING_IS_SHARED = (
    "Make the store inside of create_app(): a global one is shared by all tests.",
    "저장소는 create_app() 안에서 만드십시오. 전역 저장소는 모든 테스트가 함께 쓰게 됩니다.",
)


@pytest.fixture
def api(learner):
    """A client of the learner's application, without a network."""
    from fastapi.testclient import TestClient

    client = TestClient(learner.app.create_app(), raise_server_exceptions=False)
    with hint(*NOTHING_IS_SHARED):
        assert client.get("/flowers/1").status_code != 200
    return client


@pytest.fixture
def add(api):
    """Creates a flower; gives its number."""

    def create(**changes) -> int:
        return api.post("/flowers", json=FLOWER | changes).json()["id"]

    return create


def test_it_says_that_it_lives(api):
    with hint(
        'GET /health must answer 200 with {"status": "ok"}.',
        'GET /health는 200과 {"status": "ok"}로 응답해야 합니다.',
    ):
        found = api.get("/health")
        assert (found.status_code, found.json()) == (200, {"status": "ok"})


def test_a_flower_is_created(api):
    with hint(
        "POST /flowers must answer 201, with the flower and its number, and the header Location.",
        "POST /flowers는 201과 함께 번호가 붙은 꽃, 그리고 Location 헤더로 응답해야 합니다.",
    ):
        found = api.post("/flowers", json=FLOWER)
        assert found.status_code == 201
        assert found.json() == FLOWER | {"id": 1}
        assert found.headers["Location"] == "/flowers/1"
        assert api.get("/flowers/1").json() == FLOWER | {"id": 1}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"petal_width": "wide"}, "petal_width"),
        ({"petal_width": 0}, "petal_width"),
        ({"sepal_length": 31}, "sepal_length"),
        ({"species": "rose"}, "species"),
        ({"tag": "A 1"}, "tag"),
        ({"tag": None}, "tag"),
    ],
    ids=["text_for_a_number", "no_length", "a_giant", "a_rose", "a_bad_tag", "no_tag"],
)
def test_what_is_no_flower_is_refused_by_its_field(api, changes, field):
    with hint(
        f"{changes} must be refused with 422 that names {field}: say in NewFlower what it may be.",
        f"{changes}는 {field}를 가리키는 422로 거부해야 합니다. NewFlower에 허용되는 값을 적으십시오.",
    ):
        found = api.post("/flowers", json=FLOWER | changes)
        assert found.status_code == 422
        assert found.json()["detail"][0]["loc"] == ["body", field]
        assert api.get("/flowers/1").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/flowers", FLOWER), ("PATCH", "/flowers/1", {})],
    ids=["post", "patch"],
)
def test_a_field_that_is_not_known_is_refused(api, method, path, body):
    with hint(
        f'{method} with a field "colour" must be answered with 422: ConfigDict(extra="forbid") in both models.',
        f'"colour" 필드가 든 {method}에는 422로 응답해야 합니다. 두 모델에 ConfigDict(extra="forbid")를 주십시오.',
    ):
        assert api.request(method, path, json=body | {"colour": "red"}).status_code == 422


def test_a_body_that_is_no_json_is_refused(api):
    with hint(
        "A body that is no JSON must be answered with 422; FastAPI does it when `new` is a model.",
        "JSON이 아닌 본문에는 422로 응답해야 합니다. `new`가 모델이면 FastAPI가 처리합니다.",
    ):
        assert api.post("/flowers", content=b"{").status_code == 422


def test_a_tag_belongs_to_one_flower(api):
    with hint(
        "The second flower with the tag a1 must be refused with 409, and not be kept.",
        "태그가 a1인 두 번째 꽃은 409로 거부하고 저장하지 않아야 합니다.",
    ):
        assert [api.post("/flowers", json=FLOWER).status_code for _ in range(2)] == [201, 409]
        assert api.get("/flowers/2").status_code == 404


def test_two_requests_at_once_do_not_get_one_tag(learner):
    class SlowlyRead(learner.models.NewFlower):
        def model_dump(self, **options):
            time.sleep(0.2)
            return super().model_dump(**options)

    with hint(
        "Two threads have both got the tag a1: put `with self._lock:` around looking and keeping.",
        "두 스레드가 같은 태그 a1을 얻었습니다. 확인하고 저장하는 부분을 `with self._lock:`으로 감싸십시오.",
    ):
        store = learner.store.FlowerStore()
        with ThreadPoolExecutor(2) as threads:
            added = [threads.submit(store.add, SlowlyRead(**FLOWER)) for _ in range(2)]
        with pytest.raises(learner.store.TagTakenError):
            [one.result() for one in added]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_flower_that_is_not_there_is_a_404(api, method):
    with hint(
        f"{method} /flowers/7 must answer 404 where there is none: raise HTTPException.",
        f"꽃이 없으면 {method} /flowers/7은 404로 응답해야 합니다. HTTPException을 일으키십시오.",
    ):
        assert api.post("/flowers", json=FLOWER).status_code == 201
        found = api.request(method, "/flowers/7", json={} if method == "PATCH" else None)
        assert found.status_code == 404
        assert "7" in found.json()["detail"]


def test_a_number_in_the_path_must_be_a_number(api):
    with hint(
        "GET /flowers/seven must answer 422: declare `number: int`.",
        "GET /flowers/seven에는 422로 응답해야 합니다. `number: int`로 선언하십시오.",
    ):
        assert api.get("/flowers/seven").status_code == 422


def test_flowers_are_listed_page_by_page(api, add):
    with hint(
        "GET /flowers must give at most `limit` flowers beyond `after`, by number, of one species if asked.",
        "GET /flowers는 `after` 다음의 꽃을 번호순으로 최대 `limit`개, 요청하면 한 품종만 내놓아야 합니다.",
    ):
        for number in range(5):
            add(tag=f"t{number}", species="setosa" if number % 2 else "virginica")

        def ids(query: str) -> list[int]:
            return [one["id"] for one in api.get(f"/flowers{query}").json()]

        assert ids("?limit=2") == [1, 2]
        assert ids("?limit=2&after=2") == [3, 4]
        assert ids("?species=setosa") == [2, 4]
        assert ids("?after=5") == []


def test_a_wrong_query_is_refused(api):
    with hint(
        "limit is from 1 to 100 and species one of three: declare both, and FastAPI answers 422.",
        "limit은 1부터 100까지, species는 셋 중 하나입니다. 선언해 두면 FastAPI가 422로 응답합니다.",
    ):
        for query in ("limit=0", "limit=101", "species=rose"):
            assert api.get(f"/flowers?{query}").status_code == 422


def test_a_correction_changes_what_it_has_and_nothing_else(api, add):
    with hint(
        "PATCH must change the fields that were sent and keep the others: model_dump(exclude_unset=True).",
        "PATCH는 보낸 필드만 바꾸고 나머지는 그대로 두어야 합니다. model_dump(exclude_unset=True)를 쓰십시오.",
    ):
        number = add()
        found = api.patch(f"/flowers/{number}", json={"petal_width": 0.4, "species": None})
        wanted = FLOWER | {"id": number, "petal_width": 0.4, "species": None}
        assert (found.status_code, found.json()) == (200, wanted)
        assert api.get(f"/flowers/{number}").json() == wanted


def test_a_corrected_flower_is_still_a_flower(api, add):
    with hint(
        'PATCH with {"tag": null} leaves something that is no flower: check the whole, answer 422.',
        '{"tag": null}로 PATCH하면 꽃이 아닌 것이 남습니다. 전체를 검사하고 422로 응답하십시오.',
    ):
        number = add()
        assert api.patch(f"/flowers/{number}", json={"tag": None}).status_code == 422
        assert api.get(f"/flowers/{number}").json()["tag"] == "a1"


def test_a_correction_cannot_take_the_tag_of_another(api, add):
    with hint(
        "A tag of another flower must be refused with 409, the flower's own must not.",
        "다른 꽃의 태그는 409로 거부하고, 자기 자신의 태그는 거부하지 않아야 합니다.",
    ):
        first, second = add(tag="a1"), add(tag="a2")
        assert api.patch(f"/flowers/{second}", json={"tag": "a1"}).status_code == 409
        assert api.patch(f"/flowers/{first}", json={"tag": "a1"}).status_code == 200


def test_a_number_is_never_given_again(api, add):
    with hint(
        "DELETE must answer 204 without a body, and the next flower must get a new number.",
        "DELETE는 본문 없이 204로 응답하고, 다음 꽃은 새 번호를 받아야 합니다.",
    ):
        assert (add(tag="a1"), add(tag="a2")) == (1, 2)
        found = api.delete("/flowers/1")
        assert (found.status_code, found.content) == (204, b"")
        assert add(tag="a3") == 3


def test_two_applications_share_nothing(api, learner):
    from fastapi.testclient import TestClient

    with hint(*NOTHING_IS_SHARED):
        assert api.post("/flowers", json=FLOWER).status_code == 201
        assert TestClient(learner.app.create_app()).get("/flowers/1").status_code == 404


def test_the_server_answers_and_ends_in_order(program, port):
    command = ("-m", "uvicorn", "app:create_app", "--factory", "--port", str(port))
    with hint(
        "`uvicorn app:create_app --factory` must answer GET /health, and end at SIGTERM.",
        "`uvicorn app:create_app --factory`는 GET /health에 응답하고 SIGTERM에 끝나야 합니다.",
    ):
        running = program(*command)
        running.until(lambda: "Uvicorn running" in running.output)
        assert answers(f"http://127.0.0.1:{port}/health")
        running.stop(signal.SIGTERM)
        assert running.ends() in (0, -signal.SIGTERM)


def test_the_image_holds_what_the_api_needs(dockerfile: str):
    with hint(
        "The image needs fastapi and uvicorn, the three files, a user of its own, and a server on 0.0.0.0.",
        "이미지에는 fastapi와 uvicorn, 파일 세 개, 별도의 사용자, 0.0.0.0에서 요청을 받는 서버가 필요합니다.",
    ):
        for wanted in ("fastapi", "uvicorn", "\nUSER ", "0.0.0.0"):
            assert wanted in dockerfile
        assert not_copied(dockerfile, "models.py", "store.py", "app.py") == []


def test_compose_publishes_the_port_on_this_machine_only(services):
    with hint(
        "Publish the port as 127.0.0.1:8000:8000, for 8000:8000 opens it to the whole network; and set init: true.",
        "포트는 127.0.0.1:8000:8000으로 공개하고(8000:8000은 네트워크 전체에 열립니다) init: true를 설정하십시오.",
    ):
        assert services["api"]["ports"] == ["127.0.0.1:8000:8000"]
        assert services["api"]["init"] is True


def test_the_kedro_node_parts_flowers_from_what_is_none(learner, typed, work: Path):
    good, bad = dict(FLOWER), FLOWER | {"petal_width": -1}
    unknown = {name: value for name, value in FLOWER.items() if name != "species"}
    with hint(
        "check_flowers() must give the flowers, and of each other row its number and a reason that names the field.",
        "check_flowers()는 꽃과, 나머지 행의 번호와 필드 이름이 든 이유를 내놓아야 합니다.",
    ):
        accepted, rejected = learner.kedro_check.check_flowers([good, bad, unknown], True)
        assert accepted == [good]
        assert [one["row"] for one in rejected] == [2, 3]
        assert "petal_width" in rejected[0]["reason"]
        assert learner.kedro_check.check_flowers([unknown], False)[1] == []
        typed("kedro_check.py")
        assert len(json.loads((work / "rejected.json").read_text("utf-8"))) == 3
