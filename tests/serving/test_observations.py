from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import ensure_observations
from tests.mixed import MIXED_CONTRACT, MIXED_REQUIRED, MIXED_ROW
from tests.releases import IRIS_CONTRACT
from tests.servers import waiting_for_a_lock
from tests.serving.conftest import IRIS_ROW, NOWHERE, Client, error_paths, wait_until

VIRGINICA = IRIS_ROW | {"target": 2}


class Rows(Client):
    """A client of the rows."""

    def create(self, body: Any = VIRGINICA, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.post("/observations", json=body, headers=headers)

    def change(self, path: str, body: Any, tag: str = "*") -> httpx.Response:
        return self.request("PATCH", path, json=body, headers={"If-Match": tag})


@pytest.fixture
def rows(settings, database, iris) -> Rows:
    database.run("DROP TABLE IF EXISTS iris_data")
    ensure_observations(database.url, IRIS_CONTRACT)
    return Rows(settings, iris)


def test_a_created_observation_can_be_read_at_its_location(rows):
    before = datetime.now(UTC)

    created = rows.create()

    assert created.status_code == 201
    body = created.json()
    assert body["id"] == 1
    assert {name: body[name] for name in VIRGINICA} == VIRGINICA
    stamped = datetime.fromisoformat(body["timestamp"])
    assert abs((stamped - before).total_seconds()) < 60
    assert created.headers["location"] == "/observations/1"
    read = rows.get(created.headers["location"])
    assert (read.status_code, read.json()) == (200, body)
    assert read.headers["etag"] == created.headers["etag"]
    named = {"target": 1, "timestamp": "2026-01-31T21:00:00+09:00"}
    body = rows.create(IRIS_ROW | named).json()
    assert (body["target"], body["timestamp"]) == (1, "2026-01-31T12:00:00Z")


def test_a_repeated_request_makes_one_row_and_is_answered_as_before(rows, database):
    first = rows.create(key="order-17")
    rows.change("/observations/1", {"target": 0})
    again = rows.create(key="order-17")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert database.count("iris_data") == 1
    other = rows.create(VIRGINICA | {"target": 1}, key="order-17")
    assert error_paths(other) == ["Idempotency-Key"]
    database.run("UPDATE idempotency_keys SET created_at = now() - interval '8 days'")
    assert rows.create(key="order-18").json()["id"] != first.json()["id"]
    assert database.count("idempotency_keys") == 1


def test_the_same_request_many_times_at_once_makes_one_row(rows, database):
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: rows.create(key="race"), range(8)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert database.count("iris_data") == 1


def test_pages_give_every_row_once_even_while_rows_come_and_go(rows):
    for _ in range(7):
        rows.create()
    seen = []
    path: str | None = "/observations?limit=3"
    while path is not None:
        page = rows.get(path).json()
        seen += [one["id"] for one in page["observations"]]
        path = page["next"]
        if len(seen) == 3:
            rows.request("DELETE", "/observations/2")

    assert seen == [1, 2, 3, 4, 5, 6, 7]
    newest = rows.get("/observations?limit=2&order=desc").json()
    assert [one["id"] for one in newest["observations"]] == [7, 6]
    assert "order=desc" in newest["next"]
    for wrong in ("limit=1001", "order=random", "after=x"):
        error_paths(rows.get(f"/observations?{wrong}"))


def test_a_label_is_corrected_only_by_whom_has_seen_the_last_state(rows):
    created = rows.create()
    tag, path = created.headers["etag"], created.headers["location"]

    assert rows.request("PATCH", path, json={"target": 1}).status_code == 428
    changed = rows.change(path, {"target": 1}, tag)
    assert changed.status_code == 200
    assert changed.json() == created.json() | {"target": 1}
    late = rows.change(path, {"target": 0}, tag)
    assert late.status_code == 412
    assert late.headers["etag"] == changed.headers["etag"] != tag
    # As by proxies that compress: nginx, Caddy.
    for marked in ('"other", W/"{}"', '"{}-gzip"'):
        seen = marked.format(changed.headers["etag"].strip('"'))
        assert rows.change(path, {"target": 1}, seen).status_code == 200
    for wrong in ({}, {"target": 9}, {"id": 3}, {"petal_length": None}):
        error_paths(rows.change(path, wrong))


def test_of_two_changes_at_once_one_is_refused(rows, database):
    created = rows.create()
    tag, path = created.headers["etag"], created.headers["location"]

    with engine_for(database.url).connect() as other, ThreadPoolExecutor(1) as threads:
        other.exec_driver_sql("UPDATE iris_data SET target = 0")
        late = threads.submit(rows.change, path, {"target": 1}, tag)
        wait_until(lambda: waiting_for_a_lock(database.url))
        other.commit()

        assert late.result().status_code == 412
    assert rows.get(path).json()["target"] == 0


def test_a_deleted_observation_is_gone(rows):
    path = rows.create().headers["location"]

    for tag in ('"other"', ""):
        assert rows.request("DELETE", path, headers={"If-Match": tag}).status_code == 412
    deleted = rows.request("DELETE", path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for answer in (rows.get(path), rows.request("DELETE", path), rows.change(path, {"target": 1})):
        assert answer.status_code == 404


def test_what_the_database_refuses_is_told(rows, database, monkeypatch):
    database.run("ALTER TABLE iris_data ADD CONSTRAINT thin CHECK (petal_width < 2)")
    answer = rows.create()
    assert answer.status_code == 409
    assert "thin" in answer.json()["detail"]

    database.run("DROP TABLE iris_data")
    answer = rows.create()
    assert answer.status_code == 503
    assert "iris_data" in answer.text
    assert "kedro" in answer.text
    assert "INSERT INTO" not in answer.text

    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    answer = rows.create()
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "hidden" not in answer.text


def test_names_that_look_alike_keep_their_values_apart(rows, database, odd):
    contract = odd.manifest.contract
    database.run('DROP TABLE IF EXISTS "50% of ""it"" {row}"')
    ensure_observations(database.url, contract)
    rows.serve(odd)
    values = {name: place for place, name in enumerate(contract.features)} | {"order": 2}

    created = rows.create(values)
    changed = rows.change(created.headers["location"], {"a b": 7, "a_b": 8}).json()

    assert {name: created.json()[name] for name in values} == values
    assert {name: changed[name] for name in values} == values | {"a b": 7, "a_b": 8}
    assert rows.get("/observations").json()["observations"] == [changed]


def test_a_time_with_a_zone_is_read_and_written_in_utc(rows, database, monkeypatch):
    database.run("ALTER TABLE iris_data ALTER timestamp TYPE timestamptz")
    # The session has another zone.
    monkeypatch.setenv("DATABASE_URL", f"{database.url}&options=-ctimezone%3DAsia/Seoul")

    created = rows.create(VIRGINICA | {"timestamp": "2026-01-31T21:00:00+09:00"})
    stamped = rows.create()
    changed = rows.change("/observations/1", {"timestamp": "2026-02-01T00:30:00"})

    assert created.json()["timestamp"] == "2026-01-31T12:00:00Z"
    now = datetime.fromisoformat(stamped.json()["timestamp"])
    assert abs((now - datetime.now(UTC)).total_seconds()) < 60
    assert changed.json()["timestamp"] == "2026-02-01T00:30:00Z"
    stored = database.rows("SELECT timestamp = '2026-02-01T00:30:00Z' FROM iris_data WHERE id = 1")
    assert stored == [(True,)]


def test_a_row_that_another_program_wrote_under_a_large_key_is_shown_and_changed(rows, database):
    database.run("ALTER TABLE iris_data ALTER id TYPE bigint")
    database.run(
        "INSERT INTO iris_data (id, timestamp, sepal_length, sepal_width, petal_length, "
        "petal_width, target) "
        "VALUES (5000000000, NULL, 'NaN', 99, 1, 1, 7), (-7, NULL, 1, 1, 1, 1, 1)"
    )
    body = rows.get("/observations/5000000000").json()
    assert (body["timestamp"], body["sepal_length"], body["target"]) == (None, None, 7)

    for key in (5_000_000_000, -7):
        path = f"/observations/{key}"
        assert rows.get(path).json()["id"] == key
        assert rows.change(path, {"target": 2}).json()["target"] == 2
    following = rows.get(rows.get("/observations?limit=1").json()["next"])
    assert [one["id"] for one in following.json()["observations"]] == [5_000_000_000]
    assert rows.request("DELETE", "/observations/5000000000").status_code == 204
    assert database.count("iris_data") == 1


def test_times_that_python_cannot_hold_are_shown_as_missing_and_hide_no_other_row(rows, database):
    odd = ("0044-03-15 BC", "infinity", "-infinity", "12000-01-01")
    for time in odd:
        path = rows.create().headers["location"]
        key = path.rpartition("/")[2]
        database.run(f"UPDATE iris_data SET timestamp = '{time}' WHERE id = {key}")

    page = rows.get("/observations").json()["observations"]

    assert [one["timestamp"] for one in page] == [None] * len(odd)
    changed = rows.change(path, {"target": 0}, rows.get(path).headers["etag"])
    assert (changed.status_code, changed.json()["timestamp"]) == (200, None)


def test_every_type_of_value_is_written_changed_and_read(settings, mixed, database):
    client = Client(settings, mixed)
    database.run(f'DROP TABLE IF EXISTS "{MIXED_CONTRACT.table}"')
    ensure_observations(database.url, MIXED_CONTRACT)

    created = client.post("/observations", json=MIXED_ROW | {"left?": "leaves"})
    sparse = client.post("/observations", json=MIXED_REQUIRED | {"left?": "stays"})

    assert (created.status_code, sparse.status_code) == (201, 201), created.text + sparse.text
    expected = MIXED_ROW | {"left?": "leaves", "last seen": "2025-12-31T13:10:00Z"}
    assert created.json() == created.json() | expected
    assert sparse.json()["월 요금"] is None
    change = {"is new": None, "가입일": "2024-01-01", "월 요금": 1.5}
    location = created.headers["location"]
    changed = client.request("PATCH", location, json=change, headers={"If-Match": "*"})
    assert changed.status_code == 200, changed.text
    assert changed.json() == created.json() | change
    wrong = {"월 요금": 10**400, "is new": "no", "가입일": "x", "left?": "?"}
    answer = client.post("/observations", json=MIXED_ROW | {"left?": "leaves"} | wrong)
    assert error_paths(answer) == list(wrong)
    assert all(one["given"] and one["allowed"] for one in answer.json()["errors"])
