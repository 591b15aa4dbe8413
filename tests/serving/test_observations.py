from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sqlalchemy.engine import make_url

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.schema import ensure_observations
from mlops_for_mle.serving.context import Services
from tests.releases import HOUSE_CONTRACT, IRIS_CONTRACT, make_release
from tests.serving.conftest import IRIS_ROW, call, make, serve

pytestmark = pytest.mark.integration

VIRGINICA = IRIS_ROW | {"target": 2}


@pytest.fixture
def services(settings, database, iris) -> Services:
    for contract in (IRIS_CONTRACT, HOUSE_CONTRACT):
        database.run(f'DROP TABLE IF EXISTS "{contract.table}"')
        ensure_observations(database.url, contract)
    return make(settings, iris)


def create(services: Services, body: Any = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(services, "POST", "/observations", json=body or VIRGINICA, headers=named)


def error_paths(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [error["path"] for error in answer.json()["errors"]]


def count_rows(database, table: str = "iris_data") -> int:
    return database.rows(f"SELECT count(*) FROM {table}")[0][0]


def test_a_created_observation_can_be_read_at_its_location(services):
    before = datetime.now(UTC)

    created = create(services)

    assert created.status_code == 201
    body = created.json()
    assert body["id"] == 1
    assert {name: body[name] for name in VIRGINICA} == VIRGINICA
    stamped = datetime.fromisoformat(body["timestamp"])
    assert abs((stamped - before).total_seconds()) < 60
    assert created.headers["location"] == "/observations/1"
    read = call(services, "GET", created.headers["location"])
    assert read.status_code == 200
    assert read.json() == body
    assert read.headers["etag"] == created.headers["etag"]


def test_a_label_may_be_given_by_its_name_and_a_time_with_its_offset(services):
    given = IRIS_ROW | {"target": "versicolor", "timestamp": "2026-01-31T21:00:00+09:00"}

    body = create(services, given).json()

    assert body["target"] == 1
    assert body["timestamp"] == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    "changes",
    [
        {"petal_length": 11},
        {"petal_length": "5"},
        {"petal_length": None},
        {"petal_length": 10**400},
        {"target": 3},
        {"target": "rose"},
        {"timestamp": "yesterday"},
        {"colour": "red"},
        {"id": 7},
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(services, changes):
    answer = create(services, VIRGINICA | changes)

    assert error_paths(answer) == list(changes)
    [error] = answer.json()["errors"]
    assert error["message"]
    assert error["given"] is not None
    assert error["allowed"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"target": NaN}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_observation_is_422(services, body):
    headers = {"content-type": "application/json"}

    error_paths(call(services, "POST", "/observations", content=body, headers=headers))


def test_a_repeated_request_makes_one_row_and_is_answered_as_before(services, database):
    first = create(services, Idempotency_Key="order-17")
    call(services, "PATCH", "/observations/1", json={"target": 0}, headers={"If-Match": "*"})
    again = create(services, Idempotency_Key="order-17")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert count_rows(database) == 1
    other = create(services, VIRGINICA | {"target": 1}, Idempotency_Key="order-17")
    assert error_paths(other) == ["Idempotency-Key"]
    assert create(services, Idempotency_Key="order-18").json()["id"] != first.json()["id"]


def test_the_same_request_many_times_at_once_makes_one_row(services, database):
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: create(services, Idempotency_Key="race"), range(8)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert count_rows(database) == 1


def test_old_idempotency_keys_are_forgotten(services, database):
    create(services, Idempotency_Key="old")
    database.run("UPDATE idempotency_keys SET created_at = now() - interval '8 days'")

    create(services, Idempotency_Key="new")

    assert count_rows(database, "idempotency_keys") == 1


def test_pages_give_every_row_once_even_while_rows_come_and_go(services):
    for _ in range(7):
        create(services)
    seen = []
    path: str | None = "/observations?limit=3"
    while path is not None:
        answer = call(services, "GET", path)
        assert answer.status_code == 200
        page = answer.json()
        seen += [one["id"] for one in page["observations"]]
        path = page["next"]
        if len(seen) == 3:
            call(services, "DELETE", "/observations/2")

    assert seen == [1, 2, 3, 4, 5, 6, 7]
    newest = call(services, "GET", "/observations?limit=2&order=desc").json()
    assert [one["id"] for one in newest["observations"]] == [7, 6]
    assert "order=desc" in newest["next"]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "1001"},
        {"order": "random"},
        {"after": "x"},
    ],
)
def test_a_wrong_parameter_is_422(services, query):
    error_paths(call(services, "GET", "/observations", params=query))


def test_a_label_is_corrected_only_by_whom_has_seen_the_last_state(services):
    created = create(services)
    tag = created.headers["etag"]
    path = created.headers["location"]

    missing = call(services, "PATCH", path, json={"target": 1})
    assert missing.status_code == 428
    given = {"json": {"target": "versicolor"}, "headers": {"If-Match": tag}}
    changed = call(services, "PATCH", path, **given)
    assert changed.status_code == 200
    assert changed.json() == created.json() | {"target": 1}
    late = call(services, "PATCH", path, json={"target": 0}, headers={"If-Match": tag})
    assert late.status_code == 412
    assert late.headers["etag"] == changed.headers["etag"] != tag
    several = f'"other", {changed.headers["etag"]}'
    again = call(services, "PATCH", path, json={"petal_width": 1}, headers={"If-Match": several})
    assert again.status_code == 200
    for wrong in ({}, {"target": 9}, {"id": 3}, {"petal_length": None}):
        error_paths(call(services, "PATCH", path, json=wrong, headers={"If-Match": "*"}))


def test_of_two_changes_at_once_one_is_refused(services):
    created = create(services)
    path, seen = created.headers["location"], {"If-Match": created.headers["etag"]}

    def send(target: int) -> int:
        change = {"json": {"target": target}, "headers": seen}
        return call(services, "PATCH", path, **change).status_code

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(send, (0, 1))) == [200, 412]


def test_a_deleted_observation_is_gone(services):
    path = create(services).headers["location"]

    refused = call(services, "DELETE", path, headers={"If-Match": '"other"'})
    deleted = call(services, "DELETE", path)

    assert refused.status_code == 412
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method, options in (
        ("GET", {}),
        ("DELETE", {}),
        ("PATCH", {"json": {"target": 1}, "headers": {"If-Match": "*"}}),
    ):
        assert call(services, method, path, **options).status_code == 404


def test_a_rule_of_the_table_is_409(services, database):
    database.run("ALTER TABLE iris_data ADD CONSTRAINT thin CHECK (petal_width < 2)")

    answer = create(services)

    assert answer.status_code == 409
    assert "thin" in answer.json()["detail"]


def test_without_the_table_or_the_database_it_is_503(services, database, monkeypatch):
    database.run("DROP TABLE iris_data")
    answer = call(services, "GET", "/observations")
    assert answer.status_code == 503
    assert "kedro" in answer.json()["detail"]

    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:hidden@127.0.0.1:1/nothing")
    other = make(services.settings)
    other.releases.serve(services.releases.current)
    for method, path, options in (
        ("GET", "/observations", {}),
        ("POST", "/observations", {"json": VIRGINICA}),
        ("DELETE", "/observations/1", {}),
    ):
        answer = call(other, method, path, **options)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "hidden" not in answer.text


def test_a_row_that_another_program_wrote_is_shown_as_it_is(services, database):
    database.run(
        "INSERT INTO iris_data (timestamp, sepal_length, sepal_width, petal_length, petal_width, "
        "target) VALUES (NULL, 'NaN', 99, 1, 1, 7)"
    )

    body = call(services, "GET", "/observations/1").json()

    assert body["timestamp"] is None
    assert body["sepal_length"] is None
    assert body["target"] == 7


def test_names_that_look_alike_keep_their_values_apart(services, database):
    names = ("a b", "a_b", "a.b", "a%b", ":x", "%s", "(y)", "{z}", "A B", "select")
    contract = Contract.model_validate(
        {
            "name": "awkward",
            "table": '50% of "it" {row}',
            "features": {name: {} for name in names},
            "target": {"column": "order", "task": "regression", "response_name": "order"},
        }
    )
    database.run('DROP TABLE IF EXISTS "50% of ""it"" {row}"')
    ensure_observations(database.url, contract)
    rows = np.eye(len(names))
    model = Pipeline([("model", LinearRegression())]).fit(rows, rows[0])
    services.releases.serve(serve(make_release(model, contract, rows[:2])))
    values = {name: float(place) for place, name in enumerate(contract.columns)}

    created = create(services, values)
    changes = {"json": {"a b": 70, "a_b": 80}, "headers": {"If-Match": "*"}}
    changed = call(services, "PATCH", created.headers["location"], **changes).json()
    listed = call(services, "GET", "/observations").json()["observations"]

    assert {name: created.json()[name] for name in values} == values
    assert {name: changed[name] for name in values} == values | {"a b": 70, "a_b": 80}
    assert listed == [changed]
    assert call(services, "DELETE", "/observations/1").status_code == 204


def test_a_time_with_a_zone_is_read_and_written_in_utc(services, database, monkeypatch):
    database.run("ALTER TABLE iris_data ALTER timestamp TYPE timestamptz")
    # The session has another zone.
    monkeypatch.setenv("DATABASE_URL", f"{database.url}&options=-ctimezone%3DAsia/Seoul")

    created = create(services, VIRGINICA | {"timestamp": "2026-01-31T21:00:00+09:00"})
    stamped = create(services)
    change = {"json": {"timestamp": "2026-02-01T00:30:00"}, "headers": {"If-Match": "*"}}
    changed = call(services, "PATCH", "/observations/1", **change)

    assert created.json()["timestamp"] == "2026-01-31T12:00:00Z"
    now = datetime.fromisoformat(stamped.json()["timestamp"])
    assert abs((now - datetime.now(UTC)).total_seconds()) < 60
    assert changed.json()["timestamp"] == "2026-02-01T00:30:00Z"
    stored = database.rows("SELECT timestamp = '2026-02-01T00:30:00Z' FROM iris_data WHERE id = 1")
    assert stored == [(True,)]


def test_a_row_whose_key_is_large_is_found_changed_and_deleted(services, database):
    database.run("ALTER TABLE iris_data ALTER id TYPE bigint")
    database.run(
        "INSERT INTO iris_data (id, sepal_length, sepal_width, petal_length, petal_width, target) "
        "VALUES (5000000000, 1, 1, 1, 1, 1), (-7, 1, 1, 1, 1, 1)"
    )

    for key in (5_000_000_000, -7):
        path = f"/observations/{key}"
        assert call(services, "GET", path).json()["id"] == key
        change = {"json": {"target": 2}, "headers": {"If-Match": "*"}}
        assert call(services, "PATCH", path, **change).json()["target"] == 2
    listed = call(services, "GET", "/observations?limit=1")
    following = call(services, "GET", listed.json()["next"])
    assert [one["id"] for one in following.json()["observations"]] == [5_000_000_000]
    assert call(services, "DELETE", "/observations/5000000000").status_code == 204
    assert count_rows(database) == 1


def test_faults_of_a_body_are_bounded(services):
    answer = create(services, VIRGINICA | {f"field {number}": 1 for number in range(2_000)})

    assert 1 <= len(error_paths(answer)) <= 50
    assert len(answer.content) < 20_000


def test_a_page_of_another_site_and_a_body_that_is_no_json_change_nothing(services, database):
    path = create(services).headers["location"]
    foreign = {"origin": "https://evil.example", "if-match": "*"}

    for method, where in (("POST", "/observations"), ("PATCH", path), ("DELETE", path)):
        options = {} if method == "DELETE" else {"json": VIRGINICA}
        assert call(services, method, where, headers=foreign, **options).status_code == 403
    for method, where in (("POST", "/observations"), ("PATCH", path)):
        answer = call(services, method, where, content=b"{}", headers={"if-match": "*"})
        assert answer.status_code == 415
    assert count_rows(database) == 1


def test_a_login_that_may_only_read_is_told_so(services, database, monkeypatch):
    database.run("CREATE ROLE reader LOGIN PASSWORD 'secret'")
    database.run("GRANT SELECT ON iris_data TO reader")
    url = make_url(database.url).set(username="reader", password="secret")
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))

    refused = create(services)

    assert refused.status_code == 503
    assert "iris_data" in refused.text
    assert "INSERT INTO" not in refused.text
    assert call(services, "GET", "/observations").status_code == 200
