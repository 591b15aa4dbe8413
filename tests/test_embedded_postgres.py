"""The embedded PostgreSQL with real servers and real processes that come, go and are killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine, text

from mlops_for_mle import embedded_postgres
from mlops_for_mle.embedded_postgres import EmbeddedPostgresError

pytestmark = pytest.mark.integration

IS_ROOT = os.geteuid() == 0
HOLD = """
import json, sys
from pathlib import Path
from mlops_for_mle import embedded_postgres
home, action, *databases = sys.argv[1:]
function = getattr(embedded_postgres, action)
server = function(Path(home), *([tuple(databases)] if databases else []))
status = embedded_postgres.status(Path(home))
print(json.dumps({"port": server.port, "url": server.url("mlops"), "pid": status.pid}), flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that leases the server until it is told to end, or is killed."""

    def __init__(self, home: Path, action: str = "acquire", *databases: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(home), action, *databases],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._answer: dict[str, Any] | None = None

    @property
    def answer(self) -> dict[str, Any]:
        if self._answer is None:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            assert line, self.process.communicate()[1]
            self._answer = json.loads(line)
        return self._answer

    def end(self) -> None:
        _, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def server_is_gone(home: Path) -> bool:
    return embedded_postgres.status(home).state == "stopped"


def pid_in(path: Path) -> int:
    return int(path.read_text().split("\n")[0])


def query(url: str, statement: str) -> Any:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


def processes_about(folder: Path) -> str:
    listing = subprocess.run(
        ["ps", "-eww", "-o", "pid=,args="], check=False, capture_output=True, text=True
    )
    return "\n".join(line for line in listing.stdout.split("\n") if str(folder) in line)


def stop_and_look_around(folder: Path) -> None:
    for lock in folder.rglob("start.lock"):
        embedded_postgres.stop(lock.parent)
    assert eventually(lambda: not processes_about(folder)), processes_about(folder)


def reachable_folder() -> Path:
    """A folder that the server's user can reach, unlike the private one of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-postgres-"))
    folder.chmod(0o755)
    return folder


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = reachable_folder()
    yield folder
    stop_and_look_around(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def shared_folder() -> Iterator[Path]:
    folder = reachable_folder()
    Holder(folder / "postgres").end()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(shared_folder: Path) -> Iterator[Path]:
    """A home with a cluster, made once because that takes a second, and no server."""
    stop_and_look_around(shared_folder)
    yield shared_folder / "postgres"
    stop_and_look_around(shared_folder)


@pytest.fixture
def empty_home(folder: Path) -> Path:
    """A home that does not exist yet."""
    return folder / "postgres"


def test_two_processes_that_start_at_once_on_an_empty_home_get_one_server(empty_home: Path) -> None:
    holders = [Holder(empty_home), Holder(empty_home)]
    assert holders[0].answer == holders[1].answer
    query(holders[0].answer["url"], "CREATE TABLE seen (x int)")
    assert query(holders[1].answer["url"], "SELECT count(*) FROM seen") == 0
    assert embedded_postgres.status(empty_home).holders in (2, None)

    holders[0].end()
    assert query(holders[1].answer["url"], "SELECT count(*) FROM seen") == 0
    assert embedded_postgres.status(empty_home).running

    holders[1].end()
    assert eventually(lambda: server_is_gone(empty_home))
    log = (empty_home / "server.log").read_text()
    assert "database system is shut down" in log
    assert log.count("ready to accept connections") == 1


def test_killing_the_only_holder_stops_the_server_and_keeps_committed_rows(home: Path) -> None:
    holder = Holder(home)
    query(holder.answer["url"], "CREATE TABLE committed AS SELECT 7 AS x")
    holder.kill()
    assert eventually(lambda: server_is_gone(home))

    again = Holder(home)
    assert again.answer["port"] == holder.answer["port"]
    assert query(again.answer["url"], "SELECT x FROM committed") == 7
    again.end()


def test_a_killed_guard_is_replaced_by_the_next_starter(home: Path) -> None:
    first = Holder(home)
    assert first.answer
    guard = pid_in(home / "guard.lock")
    os.kill(guard, signal.SIGKILL)

    second = Holder(home)
    assert second.answer == first.answer
    assert pid_in(home / "guard.lock") != guard
    first.kill()
    second.kill()
    assert eventually(lambda: server_is_gone(home))


def test_a_server_that_lost_guard_and_holder_is_taken_over(home: Path) -> None:
    first = Holder(home)
    assert first.answer
    os.kill(pid_in(home / "guard.lock"), signal.SIGKILL)
    first.kill()
    assert embedded_postgres.status(home).running

    second = Holder(home)
    assert second.answer == first.answer
    second.end()
    assert eventually(lambda: server_is_gone(home))


def test_a_killed_postmaster_is_started_again_where_its_clients_look_for_it(home: Path) -> None:
    first = Holder(home)
    query(first.answer["url"], "CREATE TABLE kept AS SELECT 7 AS x")
    os.kill(first.answer["pid"], signal.SIGKILL)

    second = Holder(home)
    assert second.answer["pid"] != first.answer["pid"]
    assert query(first.answer["url"], "SELECT x FROM kept") == 7
    second.end()
    assert query(first.answer["url"], "SELECT x FROM kept") == 7
    first.end()


def test_acquire_again_in_the_same_process_is_cheap_and_restarts_a_killed_server(
    home: Path,
) -> None:
    script = """
import os, signal, sys, time
from pathlib import Path
from mlops_for_mle import embedded_postgres as ep
home = Path(sys.argv[1])
first = ep.acquire(home)
start = time.perf_counter()
assert all(ep.acquire(home) is first for _ in range(100))
assert time.perf_counter() - start < 1
os.kill(ep.status(home).pid, signal.SIGKILL)
while ep.status(home).state != "stopped":
    time.sleep(0.01)
assert ep.acquire(home) == first
assert ep.status(home).running
ep.acquire(home, databases=("mlops", "Straße 1"))
import psycopg2
psycopg2.connect(host="127.0.0.1", port=first.port, user=first.user, passfile=str(first.passfile),
                 dbname="Straße 1").close()
"""
    subprocess.run([sys.executable, "-c", script, str(home)], check=True)


def test_a_stale_postmaster_pid_does_not_block_a_start(home: Path) -> None:
    holder = Holder(home)
    data = embedded_postgres.status(home).data_directory
    assert holder.answer
    content = (data / "postmaster.pid").read_text().split("\n")
    os.kill(int(content[0]), signal.SIGKILL)
    holder.kill()
    # As the server's own user, for whose live processes PostgreSQL itself would wait.
    identity = {"user": data.stat().st_uid} if IS_ROOT else {}
    stranger = subprocess.Popen(["sleep", "60"], **identity)
    try:
        for stale_id in (stranger.pid, 1, 4_194_303, "x", ""):
            assert eventually(lambda: server_is_gone(home))
            (data / "postmaster.pid").write_text("\n".join([str(stale_id), *content[1:]]))
            assert server_is_gone(home)
            again = Holder(home)
            assert query(again.answer["url"], "SELECT 1") == 1
            again.kill()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_killed_initdb_leaves_nothing_in_the_way(empty_home: Path) -> None:
    first = Holder(empty_home)
    assert eventually(lambda: any(empty_home.glob("initialising-*/data/base")))
    first.kill()
    assert not (empty_home / "cluster").exists()

    second = Holder(empty_home)
    assert second.answer["port"]
    second.end()
    assert eventually(lambda: not any(empty_home.glob("initialising-*/data/PG_VERSION")))


def test_keep_running_survives_its_process_until_stop(home: Path) -> None:
    keeper = Holder(home, "keep_running")
    url = keeper.answer["url"]
    keeper.end()
    time.sleep(0.3)
    seen = embedded_postgres.status(home)
    assert (seen.running, seen.kept, seen.pid) == (True, True, keeper.answer["pid"])
    assert seen.holders in (0, None)

    again = Holder(home, "keep_running")
    assert again.answer["pid"] == seen.pid
    assert embedded_postgres.stop(home).holders in (1, None)
    assert server_is_gone(home)
    assert not embedded_postgres.status(home).kept
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(url.replace("+psycopg2", ""))
    again.end()
    assert not embedded_postgres.stop(home).running


def test_a_pipeline_of_commands_ends_although_the_server_is_kept(home: Path) -> None:
    command = 'exec "$0" -c "$1" "$2" keep_running </dev/null 2>&1 | cat'
    arguments = ["sh", "-c", command, sys.executable, HOLD, str(home)]
    result = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=20)
    assert json.loads(result.stdout)["port"] == embedded_postgres.status(home).port


def test_the_password_stands_in_its_file_only(home: Path) -> None:
    holder = Holder(home)
    assert holder.answer
    passfile = home / "pgpass"
    password = passfile.read_text().strip().split(":")[-1]
    assert len(password) >= 32
    assert passfile.stat().st_mode & 0o777 == 0o600
    assert password not in holder.answer["url"]
    listing = subprocess.run(
        ["ps", "-eww", "-o", "args"], check=False, capture_output=True, text=True
    ).stdout
    assert str(home) in listing
    assert password not in listing
    for path in home.rglob("*"):
        if path.is_file() and path != passfile:
            assert password.encode() not in path.read_bytes(), path
    if Path("/proc/self/environ").exists():
        environment = Path("/proc", str(holder.answer["pid"]), "environ").read_bytes()
        assert {entry.split(b"=")[0] for entry in environment.split(b"\0") if entry} <= {
            *(b"PATH", b"LC_ALL", b"TZ", b"PWD", b"SHLVL", b"_", b"OLDPWD"),
            *(b"PGDATA", b"PG_GRANDPARENT_PID"),
        }
    holder.end()


def test_the_server_is_private_and_its_settings_are_safe(home: Path) -> None:
    holder = Holder(home)
    url = holder.answer["url"]
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
    found = {name: query(url, f"SELECT current_setting('{name}')") for name in wanted}
    assert found == wanted
    locale = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'mlops'"
    assert query(url, locale) == "bC.UTF-8"
    for wrong in ({"password": "wrong", "passfile": "/dev/null"}, {"passfile": "/dev/null"}):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(
                host="127.0.0.1", port=holder.answer["port"], user="mlops", dbname="mlops", **wrong
            )
    holder.end()


def test_a_port_that_somebody_else_has_taken_is_avoided(home: Path) -> None:
    first = Holder(home)
    port = first.answer["port"]
    first.end()
    assert eventually(lambda: server_is_gone(home))
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        second = Holder(home)
        assert second.answer["port"] != port
        assert query(second.answer["url"], "SELECT 1") == 1
        second.end()


def test_starting_while_the_guard_is_stopping_always_gives_a_server(home: Path) -> None:
    def come_and_go() -> None:
        for _ in range(5):
            holder = Holder(home)
            answers.append(query(holder.answer["url"], "SELECT 1"))
            holder.end()

    answers: list[int] = []
    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 10
    assert eventually(lambda: server_is_gone(home))


def test_threads_share_a_lease_and_a_forked_child_keeps_it(home: Path) -> None:
    script = """
import os, sys, threading
from pathlib import Path
from mlops_for_mle import embedded_postgres as ep
home, servers = Path(sys.argv[1]), []
threads = [threading.Thread(target=lambda: servers.append(ep.acquire(home))) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(servers) == 8 and len(set(servers)) == 1, servers
assert ep.status(home).holders in (1, None)
if os.fork() == 0:
    assert ep.acquire(home) is servers[0]
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
os._exit(0)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) != parent.pid
    assert parent.wait(timeout=10) == 0
    time.sleep(0.5)
    assert embedded_postgres.status(home).running
    parent.communicate()
    assert eventually(lambda: server_is_gone(home))


def test_a_failed_start_quotes_the_log_and_leaves_no_process(home: Path) -> None:
    configuration = embedded_postgres.status(home).data_directory / "postgresql.conf"
    content = configuration.read_text()
    configuration.write_text(f"{content}shared_bufers = 1GB\n")
    try:
        # In this process: a refused start must not leave a lease behind.
        with pytest.raises(EmbeddedPostgresError, match=r"(?s)does not start.*shared_bufers"):
            embedded_postgres.acquire(home)
    finally:
        configuration.write_text(content)
    assert eventually(lambda: not processes_about(home))


def test_paths_with_odd_characters_work(folder: Path) -> None:
    home = folder / "my data+100% $HOME 'ü'" / "postgres"
    holder = Holder(home)
    assert query(holder.answer["url"], "SELECT current_database()") == "mlops"
    holder.end()


def test_status_and_stop_of_a_server_that_never_was_create_nothing(folder: Path) -> None:
    seen = embedded_postgres.status(folder / "none")
    assert (seen.state, seen.port, seen.pid, seen.kept) == ("stopped", None, None, False)
    assert embedded_postgres.stop(folder / "none") == seen
    assert not (folder / "none").exists()


def test_destroy_deletes_the_databases_and_a_new_start_makes_empty_ones(empty_home: Path) -> None:
    script = """
import sys
from pathlib import Path
from mlops_for_mle import embedded_postgres as ep
from sqlalchemy import create_engine, text
home = Path(sys.argv[1])
for _ in range(2):
    with create_engine(ep.acquire(home).url("mlops")).begin() as connection:
        connection.execute(text("CREATE TABLE only_once (x int)"))
    ep.destroy(home)
    ep.destroy(home)
"""
    subprocess.run([sys.executable, "-c", script, str(empty_home)], check=True)
    assert {path.suffix for path in empty_home.iterdir()} == {".lock"}


def test_psql_logs_in_with_the_server_environment(home: Path) -> None:
    holder = Holder(home)
    passfile = home / "pgpass"
    server = embedded_postgres.Server(
        holder.answer["port"], "mlops", passfile, home / "cluster", home / "server.log"
    )
    result = subprocess.run(
        [embedded_postgres.binary("psql"), "--no-psqlrc", "-Atc", "SELECT current_user"],
        env={**os.environ, **server.environment("mlops")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (result.stdout.strip(), result.stderr) == ("mlops", "")
    holder.end()
    with pytest.raises(EmbeddedPostgresError, match=r"no PostgreSQL program 'sqlplus'.*psql"):
        embedded_postgres.binary("sqlplus")


def test_a_missing_wheel_is_named_with_the_remedy() -> None:
    source = Path(embedded_postgres.__file__).parents[2]
    script = "import sys; sys.path.insert(0, sys.argv[1])\n"
    script += "from mlops_for_mle.embedded_postgres import binary; binary('psql')"
    # Without site-packages the wheel is really missing.
    command = [sys.executable, "-I", "-S", "-c", script, str(source)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "EmbeddedPostgresError" in result.stderr
    assert "uv sync --extra embedded" in result.stderr
    assert "DATABASE_URL" in result.stderr


def test_the_home_of_somebody_else_is_refused_with_the_owner(home: Path) -> None:
    foreign = Path("/usr")
    if IS_ROOT:
        Holder(home).end()
        assert eventually(lambda: server_is_gone(home))
        foreign = home
        os.seteuid(65534)
    try:
        for function in (embedded_postgres.acquire, embedded_postgres.status):
            with pytest.raises(EmbeddedPostgresError, match="belongs to root, and you are"):
                function(foreign)
    finally:
        if IS_ROOT:
            os.seteuid(0)


@pytest.mark.skipif(not IS_ROOT, reason="only root's server runs as another user")
class TestAsRoot:
    SCRIPT = """
import sys
from pathlib import Path
from mlops_for_mle.embedded_postgres import acquire, placement
placement.OUTSIDE = Path(sys.argv[2])
server = acquire(Path(sys.argv[1]))
print(server.data_directory, placement.installation())
"""

    def run(self, home: Path, outside: Path, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", self.SCRIPT, str(home), str(outside)]
        return subprocess.run(command, check=False, capture_output=True, text=True, **options)

    def test_unreachable_home_and_programs_go_outside_and_nothing_else_changes(
        self, folder: Path
    ) -> None:
        locked, outside = folder / "locked", folder / "outside"
        locked.mkdir(mode=0o700)
        site = locked / "site"
        site.mkdir()
        package = embedded_postgres.binary("postgres").parents[2]
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.exists():
                (site / part.name).symlink_to(part)
        home = locked / "project" / "postgres"
        modes = {path: path.stat() for path in (folder, locked, site, package)}

        search_path = os.pathsep.join([str(site), *filter(None, sys.path)])
        environment = {**os.environ, "PYTHONPATH": search_path}
        result = self.run(home, outside, env=environment)
        assert result.stdout.startswith(f"{outside}/"), result.stderr
        assert str(site) in result.stdout
        assert not (home / "cluster").exists()
        data = Path((home / "cluster-location.txt").read_text().split("\n")[0])
        assert data.stat().st_uid != 0
        for path, before in modes.items():
            now = path.stat()
            assert (now.st_mode, now.st_uid) == (before.st_mode, before.st_uid)
        assert eventually(lambda: server_is_gone(home))

        again = self.run(home, outside, env=environment)
        assert again.stdout == result.stdout
        assert eventually(lambda: server_is_gone(home))

        copied = shutil.copytree(home, locked / "copy" / "postgres")
        refused = self.run(copied, outside, env=environment)
        assert f"is a copy of {home}" in refused.stderr

        moved = home.rename(locked / "moved")
        assert self.run(moved, outside, env=environment).stdout == result.stdout
        assert eventually(lambda: server_is_gone(moved))

        for function in (
            embedded_postgres.status,
            embedded_postgres.stop,
            embedded_postgres.destroy,
        ):
            with pytest.raises(EmbeddedPostgresError, match="is a copy of"):
                function(copied)
        (copied / "start.lock").unlink()
        assert data.exists()
        embedded_postgres.destroy(moved)
        assert not data.parent.exists()

    def test_root_runs_a_cluster_as_its_owner_and_leaves_files_to_the_owner_of_home(
        self, empty_home: Path
    ) -> None:
        empty_home.mkdir()
        os.chown(empty_home, 65534, 65534)
        holder = Holder(empty_home)
        data = embedded_postgres.status(empty_home).data_directory
        assert Path("/proc", str(holder.answer["pid"])).stat().st_uid == data.stat().st_uid != 0
        holder.end()
        assert {path.stat().st_uid for path in empty_home.iterdir() if path != data} == {65534}
