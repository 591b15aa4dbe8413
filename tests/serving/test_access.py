import asyncio
import os
import subprocess
import sys

import httpx
import pytest

from mlops_for_mle.serving.app import create_app
from mlops_for_mle.serving.auth import needed
from mlops_for_mle.serving.keys import KeyFile
from tests.serving.conftest import IRIS_ROW, make, wait_until


class Client:
    """Asks one application again and again."""

    def __init__(self, settings, release=None, **changes):
        self.services = make(settings, release, **changes)
        self.settings = self.services.settings
        self.application = create_app(self.services)
        self.keys = KeyFile(self.settings.api_keys_file)

    def __call__(self, method: str, path: str, host="localhost", **options) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.application)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_keys_this_machine_may_predict_but_not_roll_back(settings, iris):
    client = Client(settings, iris)

    assert client("POST", "/predict", json=IRIS_ROW).status_code == 200
    assert client("POST", "/deployments/rollback", json={"reason": "x"}).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1:8000"])
def test_without_keys_a_request_under_another_name_is_refused(settings, iris, host):
    answer = Client(settings, iris)("POST", "/predict", host=host, json=IRIS_ROW)

    assert answer.status_code == 421
    assert host in answer.json()["detail"]


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "api.localhost"])
def test_without_keys_each_name_of_this_machine_is_answered(settings, iris, host):
    assert Client(settings, iris)("POST", "/predict", host=host, json=IRIS_ROW).status_code == 200


def test_names_set_as_keyless_are_answered_on_any_address_but_administer_nothing(settings, iris):
    client = Client(settings, iris, host="0.0.0.0", keyless_hosts="localhost, API-with-model")

    for host in ("localhost", "api-with-model:8000"):
        assert client("POST", "/predict", host=host, json=IRIS_ROW).status_code == 200
    assert client("POST", "/predict", host="evil.example", json=IRIS_ROW).status_code == 421
    assert client("POST", "/deployments/rollback", json={"reason": "x"}).status_code == 401


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


def test_a_revoked_key_and_a_lost_file_are_noticed_while_running(settings, iris):
    file = KeyFile(settings.api_keys_file)
    first, second = file.create("first", ["predict"]), file.create("second", ["predict"])
    client = Client(settings, iris)

    def status(key: str) -> int:
        return client("POST", "/predict", json=IRIS_ROW, headers=bearer(key)).status_code

    assert (status(first), status(second)) == (200, 200)
    file.revoke("first")
    wait_until(lambda: status(first) == 401, timeout=3)
    assert status(second) == 200
    file.path.unlink()
    wait_until(lambda: status(second) == 401, timeout=3)


def test_a_file_that_is_spoilt_while_running_changes_nothing(settings, iris, caplog):
    file = KeyFile(settings.api_keys_file)
    key = file.create("first", ["predict"])
    client = Client(settings, iris)
    file.path.write_text("{")

    wait_until(
        lambda: (
            client("POST", "/predict", json=IRIS_ROW, headers=bearer(key)).status_code == 200
            and "stay in force" in caplog.text
        ),
        timeout=3,
    )


def test_a_file_of_no_keys_lets_nobody_in(settings, iris):
    file = KeyFile(settings.api_keys_file)
    file.create("only", ["predict"])
    file.revoke("only")

    assert Client(settings, iris)("POST", "/predict", json=IRIS_ROW).status_code == 401


def test_a_public_address_without_keys_is_refused_in_one_sentence(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "mlops_for_mle.serving", "--host", "0.0.0.0", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MLOPS_PROJECT_PATH": str(tmp_path)},
    )

    assert ended.returncode == 2
    assert ended.stderr.strip() == (
        "MLOPS_HOST: 0.0.0.0 can be reached by others, and there is no API key in "
        f"{tmp_path}/conf/local/api_keys.json. Create one with "
        "`python -m mlops_for_mle.serving.keys create NAME --scope predict`, "
        "or listen on 127.0.0.1."
    )


def test_other_origins_are_refused_unless_they_are_set(settings, iris):
    ask = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}

    without = Client(settings, iris)("OPTIONS", "/predict", headers=ask)
    assert "access-control-allow-origin" not in without.headers

    KeyFile(settings.api_keys_file).create("shop", ["predict"])
    client = Client(settings, iris, cors_origins="https://shop.example, https://b.example")
    asked = client("OPTIONS", "/predict", headers=ask)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://shop.example"
    refused = client("POST", "/predict", json=IRIS_ROW, headers={"Origin": "https://shop.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://shop.example"
    other = client("OPTIONS", "/predict", headers=ask | {"Origin": "https://c.example"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://outside.example"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"}, 200),
    ],
)
def test_a_page_of_another_site_changes_nothing(settings, iris, headers, status):
    client = Client(settings, iris, cors_origins="https://shop.example")

    assert client("POST", "/predict", json=IRIS_ROW, headers=headers).status_code == status
    assert client("GET", "/model", headers=headers).status_code == 200


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", ["/predict", "/predict/preview", "/invocations"])
def test_what_a_page_can_send_without_asking_is_no_json(settings, iris, path, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}

    answer = Client(settings, iris)("POST", path, content=b"{}", headers=headers)

    assert answer.status_code == 415


def test_a_stranger_is_told_nothing_of_people_hosts_and_paths(settings, iris):
    key = KeyFile(settings.api_keys_file).create("shop", ["predict"])
    secret = "postgresql at db.internal:5432 and /srv/releases"
    for release in (iris, None):
        client = Client(settings, release)
        client.services.releases.update(database_error=secret)
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
