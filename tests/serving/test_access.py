from datetime import UTC, datetime

import pytest

from mlops_for_mle.serving.auth import needed
from mlops_for_mle.serving.keys import KeyFile
from mlops_for_mle.serving.releases import LoadFailure
from tests.serving.conftest import IRIS_ROW, Client, bearer, run, wait_until


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("api.localhost", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("10.0.0.1:8000", 421),
    ],
)
def test_without_keys_only_names_of_this_machine_are_answered(settings, iris, host, status):
    answer = Client(settings, iris)("POST", "/predict", host=host, json=IRIS_ROW)

    assert answer.status_code == status
    assert status == 200 or host in answer.json()["detail"]


def test_names_set_as_keyless_are_answered_on_any_address_but_administer_nothing(settings, iris):
    client = Client(settings, iris, host="0.0.0.0", keyless_hosts="localhost, API-with-model")

    for host, status in (("localhost", 200), ("api-with-model:8000", 200), ("evil.example", 421)):
        assert client("POST", "/predict", host=host, json=IRIS_ROW).status_code == status
    for one in (client, Client(settings, iris)):
        assert one("POST", "/deployments/rollback", json={"reason": "x"}).status_code == 401


def test_with_keys_a_request_needs_one_and_health_does_not(settings, iris):
    key = KeyFile(settings.api_keys_file).create("shop", ["predict"])
    client = Client(settings, iris)

    without = client("POST", "/predict", host="api.example", json=IRIS_ROW)
    assert without.status_code == 401
    assert without.headers["www-authenticate"] == "Bearer"
    assert without.headers["content-type"] == "application/problem+json"
    wrong = client("POST", "/predict", json=IRIS_ROW, headers=bearer(key + "x"))
    assert wrong.status_code == 401
    assert key not in wrong.text
    for headers in (bearer(key), {"X-API-Key": key}):
        answer = client("POST", "/predict", host="api.example", json=IRIS_ROW, headers=headers)
        assert answer.status_code == 200
    assert client("GET", "/health/ready", host="api.example").status_code == 200
    assert client("GET", "/metrics", host="api.example").status_code == 401


@pytest.mark.parametrize(
    ("scope", "allowed", "refused"),
    [
        ("read", ["any key"], ["predict", "write", "admin"]),
        ("predict", ["predict", "any key"], ["write", "admin"]),
        ("write", ["write", "any key"], ["predict", "admin"]),
        ("admin", ["predict", "write", "admin", "any key"], []),
    ],
)
def test_a_scope_allows_its_own_routes(settings, iris, scope, allowed, refused):
    requests = {
        "predict": ("POST", "/predict"),
        "write": ("POST", "/feedback"),
        "admin": ("POST", "/deployments/rollback"),
        "any key": ("GET", "/model"),
    }
    key = KeyFile(settings.api_keys_file).create("somebody", [scope])
    client = Client(settings, iris)

    for name in allowed:
        answer = client(*requests[name], headers=bearer(key), content=b"{")
        assert answer.status_code not in {401, 403}, name
    for name in refused:
        answer = client(*requests[name], headers=bearer(key), content=b"{")
        assert answer.status_code == 403, name
        assert f"needs the scope {name}" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "need"),
    [
        ("GET", "/", "nothing"),
        ("GET", "/page/main.js", "nothing"),
        ("POST", "/", "admin"),
        ("GET", "/v2/health/ready", "nothing"),
        ("POST", "/v2/models/iris/infer", "predict"),
        ("POST", "/invocations", "predict"),
        ("POST", "/explain", "predict"),
        ("GET", "/observations", "write"),
        ("DELETE", "/observations/1", "write"),
        ("GET", "/predictions/recent", "write"),
        ("GET", "/deployments", "any key"),
        ("POST", "/deployments/rollback", "admin"),
        ("PUT", "/something/new", "admin"),
    ],
)
def test_what_a_request_needs(method, path, need):
    assert needed(method, path) == need


def test_a_revoked_key_and_a_file_that_is_spoilt_or_lost_are_noticed_while_running(
    settings, iris, caplog
):
    file = KeyFile(settings.api_keys_file)
    first, second = file.create("first", ["predict"]), file.create("second", ["predict"])
    client = Client(settings, iris)

    def status(key: str) -> int:
        return client("POST", "/predict", json=IRIS_ROW, headers=bearer(key)).status_code

    assert (status(first), status(second)) == (200, 200)
    file.revoke("first")
    wait_until(lambda: status(first) == 401)
    file.path.write_text("{")
    wait_until(lambda: status(second) == 200 and "stay in force" in caplog.text)
    file.path.unlink()
    wait_until(lambda: status(second) == 401)
    file.create("only", ["predict"])
    file.revoke("only")
    # A file of no keys lets nobody in, either.
    assert Client(settings, iris)("POST", "/predict", json=IRIS_ROW).status_code == 401


def test_a_public_address_without_keys_is_refused_in_one_sentence(tmp_path):
    options = ("--host", "0.0.0.0", "--port", "0")
    ended = run("-m", "mlops_for_mle.serving", *options, MLOPS_PROJECT_PATH=str(tmp_path))

    assert ended.returncode == 2
    assert ended.stderr.strip() == (
        "MLOPS_HOST: 0.0.0.0 can be reached by others, and there is no API key in "
        f"{tmp_path}/conf/local/api_keys.json. Create one with "
        "`python -m mlops_for_mle.serving.keys create NAME --scope predict`, "
        "or listen on 127.0.0.1."
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://outside.example"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
def test_a_page_of_another_site_changes_nothing(settings, iris, headers, status):
    client = Client(settings, iris)

    assert client("POST", "/predict", json=IRIS_ROW, headers=headers).status_code == status
    if status == 403:
        for method, path in (("DELETE", "/observations/1"), ("PATCH", "/observations/1")):
            assert client(method, path, headers=headers).status_code == 403
    told = client("GET", "/model", headers=headers)
    assert told.status_code == 200
    assert "access-control-allow-origin" not in told.headers


def test_a_named_site_may_ask_and_others_still_may_not(settings, iris):
    named = settings.model_copy(update={"cors_origins": "https://shop.example"})
    client = Client(named, iris)
    page = {"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}

    assert client("OPTIONS", "/predict", headers=page | asked).status_code == 200
    answer = client("POST", "/predict", json=IRIS_ROW, headers=page)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    other = page | {"Origin": "https://evil.example"}
    assert client("OPTIONS", "/predict", headers=other | asked).status_code == 400
    assert client("POST", "/predict", json=IRIS_ROW, headers=other).status_code == 403


@pytest.mark.parametrize(
    "asked",
    [
        *("POST /predict", "POST /predict/preview", "POST /invocations", "POST /feedback"),
        *("POST /observations", "PATCH /observations/1"),
    ],
)
def test_what_a_page_can_send_without_asking_is_no_json(settings, iris, asked):
    client = Client(settings, iris)
    for content_type in (None, "text/plain", "application/x-www-form-urlencoded"):
        headers = {} if content_type is None else {"Content-Type": content_type}
        answer = client(*asked.split(), content=b"{}", headers=headers | {"If-Match": "*"})
        assert answer.status_code == 415, content_type


def test_a_stranger_is_told_nothing_of_people_hosts_and_paths(settings, iris):
    key = KeyFile(settings.api_keys_file).create("shop", ["predict"])
    secret = "postgresql at db.internal:5432 and /srv/releases"
    for release in (iris, None):
        client = Client(settings, release)
        client.services.releases.failure = LoadFailure(
            deployment=1, release="x", reason=secret, failed_at=datetime.now(UTC)
        )
        for path in ("/health/ready", "/ping", "/health", "/v2/health/ready", "/openapi.json"):
            answer = client("GET", path)
            assert answer.status_code == (200 if release or path == "/openapi.json" else 503)
            assert not any(
                word in answer.text for word in ("db.internal", "/srv", '"actor":"test"')
            )
            assert iris.manifest.release not in answer.text
        known = client("GET", "/health/ready", headers=bearer(key))
        assert "db.internal" in known.text


def test_the_api_document_holds_no_data(settings, iris):
    document = Client(settings, iris)("GET", "/openapi.json")

    (example,) = document.json()["components"]["schemas"]["Row"]["examples"]
    assert list(example) == list(IRIS_ROW)
    assert list(example.values()) not in [list(one) for one in iris.manifest.example.rows]
