"""The audit trail of deployments: rows are only appended, in turns, and the newest one counts."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.releases.deployments import Deployment, current, deploy, history, roll_back
from mlops_for_mle.releases.manifest import Manifest, release_name
from mlops_for_mle.releases.store import ReleaseStore
from tests.releases import changed
from tests.servers import eventually, waiting_for_a_lock

Back = Callable[..., Deployment]


@pytest.fixture
def connection(database_url) -> Iterator[Connection]:
    with engine_for(database_url).connect() as connection:
        yield connection


@pytest.fixture
def releases(release, tmp_path) -> dict[str, Manifest]:
    """Releases A to D of one contract, which lie in the store."""
    store = ReleaseStore(str(tmp_path))
    found = {}
    for version, letter in enumerate("ABCD", 1):
        run_id = letter * 8
        name = release_name("iris", version, run_id)
        one = changed(release, version=version, run_id=run_id, release=name)
        store.publish(one)
        found[letter] = one.manifest
    return found


@pytest.fixture
def back(connection, tmp_path) -> Back:
    store = ReleaseStore(str(tmp_path))
    return lambda **options: roll_back(
        connection, store, "iris", reason="worse", actor="ada", **options
    )


def put_in_service(connection: Connection, releases: dict[str, Manifest], letters: str) -> None:
    for letter in letters:
        deploy(connection, releases[letter], reason=f"reason {letter}", actor="ada")


def trail(connection: Connection) -> str:
    """Which releases were served, the oldest first; a rollback is a small letter."""
    letters = [
        row.run_id[0].lower() if row.event == "rollback" else row.run_id[0]
        for row in reversed(history(connection, "iris"))
    ]
    return "".join(letters)


def test_of_those_that_others_came_before_only_a_later_version_is_served(connection, releases):
    put_in_service(connection, releases, "A")
    newest = current(connection, "iris").id
    chosen_before = {"reason": "champion", "actor": "cron", "newest": newest}

    deploy(connection, releases["C"], **chosen_before)
    with pytest.raises(UserError, match=r"come in between: iris-v3-CCCCCCCC is served now"):
        deploy(connection, releases["B"], **chosen_before)
    deploy(connection, releases["D"], **chosen_before)

    assert trail(connection) == "ACD"


@pytest.mark.parametrize(
    "steps",
    [
        # Not back to C, which was found to be bad.
        "ABCDcba",
        # B was put in service again after A: what stood before its first time is A.
        *("ABABa", "ABaCa"),
    ],
)
def test_each_rollback_goes_back_one_more(connection, releases, back, steps):
    """A small letter is what a rollback has to go back to."""
    for letter in steps:
        if letter.isupper():
            put_in_service(connection, releases, letter)
        else:
            row = back()
            assert (row.event, row.reason, row.actor) == ("rollback", "worse", "ada")
            assert current(connection, "iris") == row

    assert trail(connection) == steps


def test_a_release_that_is_no_longer_whole_is_not_served_again(
    connection, releases, back, tmp_path
):
    put_in_service(connection, releases, "AB")
    (tmp_path / "iris/iris-v1-AAAAAAAA/model.onnx").write_bytes(b"?")
    with pytest.raises(ReleaseError, match="was altered"):
        back()
    assert trail(connection) == "AB"


@pytest.mark.parametrize(
    ("meanwhile", "refusal"), [("deploy", "has come in between"), ("prune", "has no manifest")]
)
def test_a_rollback_that_waited_for_others_is_refused(
    database_url, releases, connection, back, tmp_path, meanwhile, refusal
):
    put_in_service(connection, releases, "AB")
    with engine_for(database_url).connect() as other, ThreadPoolExecutor(1) as pool:
        # Takes its turn and keeps it, as a deployment does until it commits.
        other.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(hashtextextended('deployments of iris', 0))"
        )
        waiting = pool.submit(back)
        assert eventually(lambda: waiting_for_a_lock(database_url) == 1)
        if meanwhile == "deploy":
            put_in_service(other, releases, "C")
        else:
            ReleaseStore(str(tmp_path)).delete("iris", releases["A"].release)
            other.rollback()
        with pytest.raises(UserError, match=refusal):
            waiting.result(30)
    assert trail(connection) == ("ABC" if meanwhile == "deploy" else "AB")


def test_what_several_do_at_once_is_recorded_once(database_url, releases, connection):
    put_in_service(connection, releases, "AB")

    def deploy_third(_: int) -> bool:
        with engine_for(database_url).connect() as own:
            return deploy(own, releases["C"], reason="champion", actor="ada") is not None

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(deploy_third, range(4))) == [False, False, False, True]
    assert trail(connection) == "ABC"
