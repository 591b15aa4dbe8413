"""What the tests of scoring share: a deployed release, and a topic beside its table."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.releases.manifest import Release
from tests.end_to_end.conftest import project
from tests.pipelines.scoring.kafka_broker import KafkaBroker
from tests.pipelines.scoring.stage import Stage, TopicStage, staged
from tests.releases import iris_release
from tests.servers import ExternalPostgres

__all__ = ["project"]


@pytest.fixture(scope="session")
def release() -> Release:
    return iris_release(1)


@pytest.fixture(scope="module")
def release_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


@pytest.fixture
def empty_stage(
    module_database_url: str,
    contract: Contract,
    release_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    """Tables in which nothing was ever scored, and no release in service."""
    stage = staged(module_database_url, contract, release_store, monkeypatch)
    stage.clear()
    return stage


@pytest.fixture
def stage(empty_stage: Stage, release: Release) -> Stage:
    empty_stage.deploy(release)
    return empty_stage


@pytest.fixture
def fragile(
    external_server: ExternalPostgres,
    contract: Contract,
    release: Release,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    """A stage on a server that the test may stop."""
    url = external_server.create_database()
    return staged(url, contract, tmp_path / "releases", monkeypatch, release)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


@pytest.fixture
def topic(broker: KafkaBroker, stage: Stage) -> TopicStage:
    return TopicStage(broker, stage, broker.make_topic(2))
