import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import upgrade
from mlops_for_mle.releases.manifest import Manifest, Release
from mlops_for_mle.releases.store import MANIFEST_FILE, MODEL_FILE
from mlops_for_mle.serving.releases import Cache, LoadFailure
from mlops_for_mle.serving.services import Services
from tests.releases import changed, house_release, iris_release
from tests.serving.conftest import Database, deployment_of, wait_until


@pytest.fixture
def services(settings, database) -> Iterator[Services]:
    made = Services(settings)
    yield made
    made.stop()


def wait_for_release(services: Services, release: Release) -> None:
    def is_served() -> bool:
        current = services.releases.current
        return current is not None and current.manifest == release.manifest

    wait_until(is_served, what="the swap")


def wait_for_failure(services: Services, deployment: int, after: Any = None) -> LoadFailure:
    def failure() -> LoadFailure | None:
        found = services.releases.failure
        return None if found is after else found

    found = wait_until(failure, what="the failure")
    assert found.deployment == deployment
    return found


def test_with_several_contracts_the_choice_is_asked_for(services, deploy, iris, houses):
    deploy(iris, houses)

    services.start()

    wait_until(lambda: services.releases.database.available is not None)
    assert services.releases.obstacle() == (
        "Several contracts are deployed: set MLOPS_MODEL to houses or iris."
    )


def altered(store, release: Release) -> None:
    store.publish(release)
    folder = Path(store.url) / release.manifest.contract.name / release.manifest.release
    (folder / MODEL_FILE).write_bytes(b"altered")


def of_another_model(store, release: Release) -> None:
    houses = house_release()
    digest = {"model_sha256": houses.manifest.model_sha256}
    manifest = release.manifest.model_copy(update=digest)
    store.publish(Release(manifest=manifest, model=houses.model))


@pytest.mark.parametrize(
    ("publish", "reason"),
    [
        (lambda store, release: None, "has no manifest.json"),
        (of_another_model, "Got invalid dimensions for input: features"),
    ],
    ids=["missing", "wrong signature"],
)
def test_a_release_that_fails_is_told_once_and_the_old_one_stays(
    services, database, store, deploy, iris, iris_second, publish, reason, caplog
):
    deploy(iris)
    services.start()
    wait_for_release(services, iris)
    publish(store, iris_second)

    deployment = database.deploy(iris_second)

    first = wait_for_failure(services, deployment)
    assert reason in first.reason
    assert services.releases.current.manifest == iris.manifest
    wait_for_failure(services, deployment, after=first)
    failures = "mlops_release_failures_total"
    assert services.metrics.registry.get_sample_value(failures) == 1
    assert sum("cannot be served" in one for one in caplog.messages) == 1


def test_a_store_that_does_not_answer_is_told_before_its_client_gives_up(
    services, database, store, deploy, iris, iris_second
):
    deploy(iris)
    services.start()
    wait_for_release(services, iris)
    manifest = Path(store.url) / "iris" / iris_second.manifest.release / MANIFEST_FILE
    manifest.parent.mkdir()
    # Whoever reads it waits for somebody who writes.
    os.mkfifo(manifest)

    deployment = database.deploy(iris_second)

    first = wait_for_failure(services, deployment)
    assert "has not answered yet" in first.reason
    assert services.releases.current.manifest == iris.manifest
    with manifest.open("w"):
        manifest.unlink()
    wait_for_failure(services, deployment, after=first)


def test_a_login_that_may_only_read_the_audit_trail_follows_it_and_notices_a_store_that_heals(
    services, database, store, deploy, iris, monkeypatch
):
    database.run("CREATE ROLE without_right LOGIN PASSWORD 'secret'")
    database.run("GRANT SELECT ON deployments TO without_right")
    url = make_url(database.url).set(username="without_right", password="secret")
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    broken = deploy(iris)
    altered(store, iris)
    services.start()
    wait_for_failure(services, broken, after=wait_for_failure(services, broken))

    store.publish(iris)

    wait_for_release(services, iris)
    assert services.releases.database.available
    assert services.releases.failure is None


def test_a_database_without_tables_is_looked_at_until_it_has_some(
    services, database, store, iris, monkeypatch
):
    engine = engine_for(database.url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE IF EXISTS bare")
        connection.exec_driver_sql("CREATE DATABASE bare")
    url = make_url(database.url).set(database="bare").render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)
    services.start()
    wait_until(lambda: services.releases.database.available is not None)
    assert services.releases.obstacle() == "Nothing was deployed yet: run `kedro run` first."
    assert services.releases.database.available

    upgrade(url)
    store.publish(iris)
    Database(url).deploy(iris)

    wait_for_release(services, iris)


def test_a_look_that_waits_for_a_lock_is_given_up(
    services, database, deploy, iris, iris_second, monkeypatch
):
    monkeypatch.setattr("mlops_for_mle.serving.releases._STATEMENT_SECONDS", 0.3)
    deploy(iris)
    services.start()
    wait_for_release(services, iris)
    with engine_for(database.url).begin() as connection:
        connection.exec_driver_sql("LOCK TABLE deployments IN ACCESS EXCLUSIVE MODE")
        wait_until(lambda: services.releases.database.available is False)
        assert "statement timeout" in services.releases.database.error
    deploy(iris_second)

    wait_for_release(services, iris_second)


def test_a_damaged_copy_in_the_cache_is_fetched_anew(
    tmp_path, settings, services, deploy, iris, caplog
):
    deploy(iris)
    services.start()
    folder = tmp_path / "data/serving_cache"
    wait_until(lambda: list(folder.glob("iris/deployment.json")))
    services.stop()
    cached = Cache(str(folder))
    altered(cached, iris)

    restarted = Services(settings)
    restarted.start()
    try:
        wait_for_release(restarted, iris)
        assert restarted.releases.current.origin == "store"
    finally:
        restarted.stop()
    assert cached.last_served("iris")[0] == cached.last_served(None)[0] == iris
    assert "The cached release cannot be served" in caplog.text


def test_a_cached_release_of_another_contract_makes_way_for_the_only_one_that_is_deployed(
    tmp_path, services, deploy, iris, houses
):
    Cache(str(tmp_path / "data/serving_cache")).keep(houses, deployment_of(houses))
    services.start()
    assert services.releases.current.contract.name == "houses"

    deploy(iris)

    wait_for_release(services, iris)


def test_of_the_releases_that_were_served_none_is_remembered(services, deploy):
    names = []
    services.start()
    for version in range(10, 12):
        # Not the one that other tests are given.
        release = changed(iris_release(1), version=version, release=f"iris-v{version}-forgotten")
        names.append(release.manifest.release)
        deploy(release)
        wait_for_release(services, release)
    services.releases.stop(5)
    del release

    gc.collect()
    # Pydantic's own isinstance is slow for a million objects.
    left = {one.release for one in gc.get_objects() if type(one) is Manifest}

    assert left & set(names) == {names[-1]}
