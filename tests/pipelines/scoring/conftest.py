"""What the tests of scoring share: a deployed release, and a topic beside its table."""

import pytest

from tests.pipelines.scoring.kafka_broker import KafkaBroker
from tests.pipelines.scoring.stage import TopicStage, staged
from tests.releases import iris_release


@pytest.fixture(scope="session")
def release():
    return iris_release(1)


@pytest.fixture(scope="module")
def release_store(tmp_path_factory):
    return tmp_path_factory.mktemp("releases")


@pytest.fixture
def empty_stage(module_database_url, contract, release_store, monkeypatch):
    """Tables in which nothing was ever scored, and no release in service."""
    return staged(module_database_url, contract, release_store, monkeypatch)


@pytest.fixture
def stage(empty_stage, release):
    empty_stage.deploy(release)
    return empty_stage


@pytest.fixture
def fragile(external_url, contract, release, tmp_path, monkeypatch):
    """A stage on a server that the test may stop."""
    return staged(external_url, contract, tmp_path / "releases", monkeypatch, release)


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    broker = KafkaBroker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


@pytest.fixture
def topic(broker, stage):
    return TopicStage(broker, stage, broker.make_topic(2))
