"""A name that one process at a time has, also when the database is restarted meanwhile."""

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from mlops_for_mle.database import engine_for, only_one
from mlops_for_mle.errors import UserError
from tests.integration.servers import ExternalPostgres, query

pytestmark = pytest.mark.integration

HOLDERS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"


def another(url: str) -> Engine:
    """Connections as another process has them."""
    return create_engine(url, poolclass=NullPool)


def end_all_connections(url: str) -> None:
    query(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def test_a_name_is_held_by_one_until_it_is_given_up(database_url: str) -> None:
    with only_one(engine_for(database_url), "watch/iris") as held:
        assert held is not None
        held.keep()
        with only_one(another(database_url), "watch/iris") as second:
            assert second is None
        with only_one(another(database_url), "watch/wine") as other:
            assert other is not None
    with only_one(another(database_url), "watch/iris") as later:
        assert later is not None


def test_a_name_that_was_lost_with_its_connection_is_taken_again(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with only_one(engine_for(database_url), "watch/iris") as held:
        assert held is not None
        end_all_connections(database_url)

        held.keep()

        assert "was lost; it is held again" in caplog.text
        with only_one(another(database_url), "watch/iris") as second:
            assert second is None
    assert query(database_url, HOLDERS) == [(0,)]


def test_who_lost_a_name_to_another_says_so_and_leaves_it_alone(database_url: str) -> None:
    with only_one(engine_for(database_url), "watch/iris") as held:
        assert held is not None
        end_all_connections(database_url)
        with only_one(another(database_url), "watch/iris") as second:
            assert second is not None
            with pytest.raises(UserError, match="that held watch/iris was lost, and another"):
                held.keep()
            second.keep()
            assert query(database_url, HOLDERS) == [(1,)]


def test_a_name_outlives_a_restart_of_the_server(external_server: ExternalPostgres) -> None:
    url = external_server.create_database()
    with only_one(engine_for(url), "watch/iris") as held:
        assert held is not None
        external_server.stop("immediate")
        external_server.start()

        held.keep()

        assert query(url, HOLDERS) == [(1,)]


def test_a_name_whose_connection_is_gone_is_given_up_in_silence(database_url: str) -> None:
    with only_one(engine_for(database_url), "watch/iris") as held:
        assert held is not None
        end_all_connections(database_url)
    assert query(database_url, HOLDERS) == [(0,)]
