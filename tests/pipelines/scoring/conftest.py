"""What the tests of scoring share: a deployed release, and a topic beside its table."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.releases.manifest import Release
from tests.end_to_end.conftest import project
from tests.pipelines.scoring.kafka_broker import KafkaBroker
from tests.pipelines.scoring.stage import Stage, staged
from tests.pipelines.scoring.topic_stage import TopicStage
from tests.releases import iris_release

__all__ = ["project"]


@pytest.fixture(scope="session")
def release() -> Release:
    return iris_release(1)


@pytest.fixture
def empty_stage(
    database_url: str, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    """Tables in which nothing was ever scored, and no release."""
    return staged(database_url, contract, tmp_path / "releases", monkeypatch)


@pytest.fixture
def stage(empty_stage: Stage, release: Release) -> Stage:
    empty_stage.deploy(release)
    return empty_stage


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


@pytest.fixture
def topic(broker: KafkaBroker, stage: Stage) -> TopicStage:
    return TopicStage(broker, stage, broker.make_topic(2))
