"""Who is answered: this machine, keys and their scopes, and no page of another site."""

import json
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.serving.keys import KeyFile, commands
from mlops_for_mle.serving.releases import LoadFailure
from tests.expectations import run
from tests.serving.conftest import IRIS_ROW, Client, make_key, wait_until


def status(client: Client, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/predict", json=IRIS_ROW, headers=named).status_code


LOCAL = ("localhost:8000", "127.0.0.1", "[::1]:8000", "api.localhost")
REMOTE = ("evil.example", "localhost.evil.example", "10.0.0.1:8000")


def test_without_keys_this_machine_and_names_set_for_it_are_answered_and_administer_nothing(
    settings, iris
):
    named = {"host": "0.0.0.0", "keyless_hosts": "localhost, API-with-model"}
    for changes, hosts in (({}, LOCAL), (named, ("localhost", "api-with-model:8000"))):
        client = Client(settings, iris, **changes)
        for host in hosts:
            assert status(client, Host=host) == 200, host
        for host in REMOTE:
            answer = client.post("/predict", json=IRIS_ROW, headers={"Host": host})
            assert answer.status_code == 421, host
            assert host in answer.json()["detail"]
        assert client.post("/deployments/rollback", json={"reason": "x"}).status_code == 401


def test_with_keys_a_scope_allows_its_own_routes_and_admin_all_wherever_it_comes_from(
    settings, iris
):
    scopes = ("read", "predict", "write", "admin")
    keys = {scope: make_key(settings, scope, name=scope) for scope in scopes}
    client = Client(settings, iris)
    client.headers = {"Host": "api.example"}

    for need, requests in {
        "nothing": ["GET /", "GET /page/main.js", "GET /v2/health/ready", "GET /openapi.json"],
        "any key": ["GET /model", "GET /deployments", "GET /metrics"],
        "predict": [
            "POST /predict",
            "POST /explain",
            "POST /invocations",
            "POST /v2/models/x/infer",
        ],
        "write": ["POST /feedback", "GET /predictions/recent", "DELETE /observations/1"],
        "admin": ["POST /", "POST /deployments/rollback"],
    }.items():
        for method, path in map(str.split, requests):
            answer = client.request(method, path, content=b"{")
            assert (answer.status_code == 401) is (need != "nothing"), path
            assert (answer.headers.get("www-authenticate") == "Bearer") is (need != "nothing")
            for scope, key in keys.items():
                answer = client.request(method, path, content=b"{", headers=key)
                is_allowed = need in {"nothing", "any key", scope} or scope == "admin"
                assert (answer.status_code != 403) is is_allowed, (scope, path)
                assert answer.status_code != 401
                assert is_allowed or f"needs the scope {need}" in answer.text


def test_a_revoked_key_and_a_file_that_is_spoilt_or_lost_are_noticed_while_running(
    settings, iris, caplog, monkeypatch
):
    monkeypatch.setattr("mlops_for_mle.serving.keys._RELOAD_SECONDS", 0.02)
    file = KeyFile(settings.api_keys_file)
    first, second = file.create("first", ["predict"]), file.create("second", ["predict"])
    client = Client(settings, iris)

    assert status(client, X_API_Key=first) == status(client, X_API_Key=second) == 200
    file.revoke("first")
    wait_until(lambda: status(client, X_API_Key=first) == 401)
    file.path.write_text("{")
    wait_until(lambda: status(client, X_API_Key=second) == 200 and "stay in force" in caplog.text)
    file.path.unlink()
    wait_until(lambda: status(client, X_API_Key=second) == 401)
    file.create("only", ["predict"])
    file.revoke("only")
    # A file of no keys lets nobody in, either.
    assert status(Client(settings, iris)) == 401


def test_a_page_of_another_site_changes_nothing(client):
    for foreign in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert status(client, **foreign) == 403, foreign
        assert client.request("DELETE", "/observations/1", headers=foreign).status_code == 403
        told = client.get("/model", headers=foreign)
        assert told.status_code == 200
        assert "access-control-allow-origin" not in told.headers
    for own in (
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://outside.example"},
        {"Sec-Fetch-Site": "none"},
    ):
        assert status(client, **own) == 200, own


def test_utf_8_may_be_spelt_as_people_do(client):
    for charset, status in (("utf8", 200), ("UTF-8", 200), ("utf-16", 415)):
        headers = {"Content-Type": f"application/json; charset={charset}"}
        body = json.dumps(IRIS_ROW).encode()
        assert client.post("/predict", content=body, headers=headers).status_code == status


def test_what_a_page_can_send_without_asking_is_no_json(client):
    for headers in ({}, {"Content-Type": "text/plain"}):
        for path in ("/predict", "/explain", "/invocations", "/feedback", "/observations"):
            assert client.post(path, content=b"{}", headers=headers).status_code == 415, path
        changed = client.request(
            "PATCH", "/observations/1", content=b"{}", headers={"If-Match": "*"} | headers
        )
        assert changed.status_code == 415


def test_a_stranger_is_told_nothing_of_people_hosts_and_paths(settings, iris):
    key = make_key(settings, "predict")
    secret = "postgresql at db.internal:5432 and /srv/releases"
    secrets = ("db.internal", "/srv", '"actor":"test"', iris.manifest.release)
    for release in (iris, None):
        client = Client(settings, release)
        client.services.releases.failure = LoadFailure(deployment=1, release="x", reason=secret)
        for path in ("/health/ready", "/ping", "/health", "/v2/health/ready", "/openapi.json"):
            answer = client.get(path)
            assert answer.status_code == (200 if release or path == "/openapi.json" else 503)
            assert not any(word in answer.text for word in secrets), path
        assert "db.internal" in client.get("/health/ready", headers=key).text


def keys(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments, env={"MLOPS_API_KEYS_FILE": str(path)})


def test_a_key_is_printed_once_kept_as_a_digest_for_its_owner_alone_and_revoked(tmp_path):
    path = tmp_path / "new" / "keys.json"

    made = keys(path, "create", "web-shop", "--scope", "predict")

    key = made.stdout.strip()
    assert key.startswith("mlops_")
    assert len(key) == 49
    assert key not in path.read_text()
    assert key not in made.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (kept,) = json.loads(path.read_text())["keys"]
    assert (kept["name"], kept["scopes"]) == ("web-shop", ["predict"])
    KeyFile(path).create("two", ["write"])
    assert keys(path, "revoke", "web-shop").exit_code == 0
    assert [one.name for one in KeyFile(path).read()] == ["two"]
    with pytest.raises(UserError, match="There is a key named two already"):
        KeyFile(path).create("two", ["predict"])


def test_a_mistake_is_one_sentence_and_status_1(tmp_path):
    command = (sys.executable, "-m", "mlops_for_mle.serving.keys", "revoke", "two")

    ended = run(*command, env=os.environ | {"MLOPS_API_KEYS_FILE": str(tmp_path / "keys.json")})

    assert ended.returncode == 1
    assert ended.stderr.strip() == "There is no key named 'two'; there are: none."


def test_a_file_that_is_not_valid_is_named_and_its_content_is_not_shown(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text('{"keys": [{"name": "a", "scopes": ["root"], "sha256": "mlops_secret"}]}')

    with pytest.raises(ConfigurationError) as caught:
        KeyFile(path).read()

    assert str(path) in str(caught.value)
    assert "keys.0.scopes.0" in str(caught.value)
    assert "mlops_secret" not in str(caught.value)


def test_keys_made_at_the_same_time_are_all_kept(tmp_path):
    file = KeyFile(tmp_path / "keys.json")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: file.create(f"key-{n}", ["predict"]), range(40)))

    assert {one.name for one in file.read()} == {f"key-{n}" for n in range(40)}
