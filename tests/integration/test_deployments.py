"""The audit trail of deployments: rows are only appended, and the newest one counts."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import IntegrityError

from mlops_for_mle import deployments
from mlops_for_mle.database import engine_for
from mlops_for_mle.datasets.releases import DeploymentDataset, record_deployment
from mlops_for_mle.records import Deployment, NothingToDeploy
from tests.integration.servers import query, scalar

pytestmark = pytest.mark.integration


def deployment(version: int, event: str = "deploy", contract: str = "iris") -> Deployment:
    return Deployment.model_validate(
        {
            "contract": contract,
            "event": event,
            "release": f"{contract}-v{version}-0123abcd",
            "model_version": version,
            "run_id": f"run-{version}",
            "reason": f"reason {version}",
        }
    )


def trail(url: str, contract: str = "iris") -> list[deployments.DeploymentRow]:
    with engine_for(url).connect() as connection:
        return deployments.history(connection, contract)


def served(url: str, contract: str = "iris") -> deployments.DeploymentRow | None:
    with engine_for(url).connect() as connection:
        return deployments.current(connection, contract)


def test_nothing_is_served_before_the_first_deployment(database_url: str) -> None:
    assert served(database_url) is None
    assert trail(database_url) == []


def test_the_newest_deployment_is_served_and_the_older_ones_stay(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_ACTOR", "ada")
    assert record_deployment(database_url, deployment(1))
    assert record_deployment(database_url, deployment(2))

    newest = served(database_url)
    assert newest is not None
    assert (newest.model_version, newest.actor, newest.reason) == (2, "ada", "reason 2")
    assert [row.model_version for row in trail(database_url)] == [2, 1]
    assert newest.created_at.tzinfo is not None


def test_deploying_what_is_served_already_adds_no_row(database_url: str) -> None:
    assert record_deployment(database_url, deployment(1))
    assert not record_deployment(database_url, deployment(1))
    assert len(trail(database_url)) == 1


def test_a_rollback_is_one_more_row_and_is_served(database_url: str) -> None:
    for one in (deployment(1), deployment(2), deployment(1, "rollback")):
        assert record_deployment(database_url, one)
    assert [(row.event, row.model_version) for row in trail(database_url)] == [
        ("rollback", 1),
        ("deploy", 2),
        ("deploy", 1),
    ]
    newest = served(database_url)
    assert newest is not None
    assert newest.model_version == 1


def test_contracts_have_trails_of_their_own(database_url: str) -> None:
    record_deployment(database_url, deployment(1))
    record_deployment(database_url, deployment(5, contract="wine"))
    found = served(database_url)
    assert found is not None
    assert found.contract == "iris"
    assert len(trail(database_url, "wine")) == 1


def test_a_failure_to_load_is_recorded_and_does_not_change_what_is_served(
    database_url: str,
) -> None:
    record_deployment(database_url, deployment(1))
    values = deployment(2).model_dump() | {"event": "load_failed"}
    with engine_for(database_url).begin() as connection:
        deployments.append(connection, actor="server", **values)
    newest = served(database_url)
    assert newest is not None
    assert newest.model_version == 1
    assert scalar(database_url, "SELECT count(*) FROM deployments") == 2


def test_an_event_that_is_none_of_the_allowed_is_refused(database_url: str) -> None:
    values = deployment(1).model_dump() | {"event": "replace"}
    with (
        pytest.raises(IntegrityError, match="deployments_event_check"),
        engine_for(database_url).begin() as connection,
    ):
        deployments.append(connection, actor="ada", **values)


def test_the_same_release_deployed_by_several_at_once_is_recorded_once(database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        appended = list(
            pool.map(lambda _: record_deployment(database_url, deployment(3)), range(4))
        )
    assert sorted(appended) == [False, False, False, True]
    assert len(trail(database_url)) == 1


def test_the_catalog_entry_appends_and_shows_the_trail(database_url: str) -> None:
    entry = DeploymentDataset(credentials={"con": database_url})
    entry.save(NothingToDeploy("every candidate was rejected"))
    assert entry.load().empty
    entry.save(deployment(1))
    entry.save(deployment(1))
    assert entry.load()["release"].tolist() == ["iris-v1-0123abcd"]
    assert query(database_url, "SELECT contract, event FROM deployments") == [("iris", "deploy")]
