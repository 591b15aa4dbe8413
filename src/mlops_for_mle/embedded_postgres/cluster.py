"""The cluster of the embedded PostgreSQL: how it is made and started."""

import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mlops_for_mle.embedded_postgres.guard import (
    LOCATION_FILE,
    POLL_SECONDS,
    SERVER_LOCK,
    data_directory,
    find_postmaster,
    open_in_home,
    try_lock,
)
from mlops_for_mle.embedded_postgres.placement import (
    EmbeddedPostgresError,
    SystemUser,
    can_enter,
    claim_location,
    environment,
    identity,
    installation,
    location_outside,
    reachable_programs,
    server_user,
    write_in_home,
)
from mlops_for_mle.embedded_postgres.processes import LOG_FILE, open_log, spawn_detached
from mlops_for_mle.embedded_postgres.server import HOST, PASSWORD_FILE, USER

PORT_FILE = "port"
START_SECONDS = 120.0
LOG_LIMIT_BYTES = 10_000_000
LAUNCH_ATTEMPTS = 10
# A killed server's processes notice it and end within moments.
UNSEEN_SECONDS = 20.0


@dataclass(frozen=True)
class Cluster:
    """A cluster that is ready to be started."""

    home: Path
    data: Path
    programs: Path
    user: SystemUser | None
    """None: the server runs as the current user."""


def prepare(home: Path) -> Cluster:
    """Find or make the cluster of a home directory; the caller holds `start.lock`.

    Raises:
        EmbeddedPostgresError: if there is no usable cluster and none can be made.
    """
    data = data_directory(home)
    if os.geteuid() != 0:
        cluster = Cluster(home, data, installation() / "bin", None)
    else:
        user = server_user(data)
        if not data.exists() and data.parent == home and not can_enter(user, home):
            data = location_outside(home)
        cluster = Cluster(home, data, reachable_programs(user), user)
    if data.parent != home:
        claim_location(home, data)
    if not data.exists():
        _initialise(cluster)
    elif cluster.user and not can_enter(cluster.user, data):
        raise EmbeddedPostgresError(
            f"PostgreSQL runs as {cluster.user.name}, who cannot enter {data}: give that user the "
            "right to pass through the folders above it (chmod o+x)."
        )
    if not (home / PASSWORD_FILE).exists():
        raise EmbeddedPostgresError(
            f"The password file {home / PASSWORD_FILE} is gone, so nobody can log in to "
            f"the database in {data}. Restore it, or delete both to begin with an empty database."
        )
    return cluster


def remove(home: Path) -> None:
    """Delete the cluster and what belongs to it; the caller holds `start.lock`, and nothing runs.

    The lock files stay, because other processes may be waiting for them.
    """
    data = data_directory(home)
    if data.parent != home and data.exists():
        claim_location(home, data)
        shutil.rmtree(data.parent)
    for folder in (home / "cluster", *home.glob("initialising-*")):
        if folder.exists():
            shutil.rmtree(folder)
    for name in (LOCATION_FILE, PASSWORD_FILE, PORT_FILE, LOG_FILE, f"{LOG_FILE}.1"):
        (home / name).unlink(missing_ok=True)


def _initialise(cluster: Cluster) -> None:
    home, data, user = cluster.home, cluster.data, cluster.user
    for left_behind in data.parent.glob("initialising-*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="initialising-", dir=data.parent))
    try:
        password = secrets.token_urlsafe(32)
        password_file = folder / "password"
        password_file.touch(0o600)
        password_file.write_text(password)
        if user:
            for path in (folder, password_file):
                os.chown(path, user.uid, user.gid)
        command = [str(cluster.programs / "initdb"), "-D", str(folder / "data"), "-U", USER]
        command += ["-A", "scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8"]
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        result = subprocess.run(
            [*command, "--no-instructions"],
            **identity(user),
            env=environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if result.returncode != 0:
            raise EmbeddedPostgresError(
                f"initdb cannot make a database cluster in {data.parent}:\n"
                f"{_last_lines(result.stdout)}"
            )
        write_in_home(home, PASSWORD_FILE, f"{HOST}:*:*:{USER}:{password}\n")
        if data.parent != home:
            explanation = (
                "The database of this project lies in the folder above: PostgreSQL does not run as "
                "root, and the\nunprivileged user it runs as cannot reach this one.\n"
            )
            write_in_home(home, LOCATION_FILE, f"{data}\n\n{explanation}")
        (folder / "data").rename(data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ensure_running(cluster: Cluster) -> int:
    """Start the server unless it runs, wait until it takes connections, and return its port.

    The caller holds `start.lock` and a lease, and a guard lives.

    Raises:
        EmbeddedPostgresError: if it does not start; the message quotes the end of the server's log.
    """
    home, data = cluster.home, cluster.data
    log = open_log(home)
    attempts, log_start = 0, os.fstat(log).st_size
    now = time.monotonic()
    deadline, unseen_deadline = now + START_SECONDS, now + UNSEEN_SECONDS
    lock = open_in_home(home, SERVER_LOCK)
    try:
        while (now := time.monotonic()) < deadline:
            found = find_postmaster(data)
            if found:
                unseen_deadline = now + UNSEEN_SECONDS
                if found.state in ("ready", "standby"):
                    write_in_home(home, PORT_FILE, f"{found.port}\n")
                    return found.port
            # The lock is free only when no process of an earlier server is left.
            elif try_lock(lock, fcntl.LOCK_EX):
                if attempts:
                    reason = _read_from(home / LOG_FILE, log_start)
                    _check_worth_another_attempt(cluster, reason, attempts)
                attempts += 1
                log_start = os.fstat(log).st_size
                _remove_misleading_pid_file(data)
                _launch(cluster, _choose_port(home, attempts), log, lock)
                os.close(lock)
                lock = open_in_home(home, SERVER_LOCK)
            elif now > unseen_deadline:
                break
            time.sleep(POLL_SECONDS)
    finally:
        os.close(lock)
        os.close(log)
    found = find_postmaster(data)
    problem = (
        f"is still {found.state or 'starting'} after {START_SECONDS:.0f} s (process {found.pid})"
        if found
        else "is in use by processes that cannot be seen from here (of another container?)"
    )
    raise EmbeddedPostgresError(
        f"The PostgreSQL of {data} {problem}. The end of its log {home / LOG_FILE}:\n"
        f"{_last_lines(_read_from(home / LOG_FILE, log_start))}"
    )


def _launch(cluster: Cluster, port: int, log: int, lock: int) -> None:
    command = [str(cluster.programs / "postgres"), "-D", str(cluster.data), "-p", str(port)]
    for setting in (
        f"listen_addresses={HOST}",
        "unix_socket_directories=",
        "logging_collector=off",
        "log_destination=stderr",
    ):
        command += ["-c", setting]
    spawn_detached(
        command,
        log,
        inherited=(lock,),
        cwd=cluster.data,
        env=environment(),
        **identity(cluster.user),
    )


def _choose_port(home: Path, attempt: int) -> int:
    """The port of the last time, where open pools and notebooks look for it, else a free one."""
    try:
        last = int((home / PORT_FILE).read_text())
    except (FileNotFoundError, ValueError):
        last = 0
    for port in (last, 0) if attempt == 1 else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EmbeddedPostgresError(f"There is no free TCP port on {HOST}.")


def _check_worth_another_attempt(cluster: Cluster, reason: str, attempts: int) -> None:
    passing = ("could not bind", "could not create any TCP/IP sockets", "shared memory block")
    # A server that gives no reason was killed, perhaps in the midst of its recovery.
    was_killed = "FATAL" not in reason and "PANIC" not in reason
    if attempts < LAUNCH_ATTEMPTS and (was_killed or any(text in reason for text in passing)):
        time.sleep(0.05 * attempts)
        return
    raise EmbeddedPostgresError(
        f"PostgreSQL does not start on {cluster.data}. The end of its log "
        f"{cluster.home / LOG_FILE}:\n{_last_lines(reason)}"
    )


def _remove_misleading_pid_file(data: Path) -> None:
    """Remove a `postmaster.pid` whose process id now belongs to some other process."""
    path = data / "postmaster.pid"
    try:
        pid = path.read_text().split("\n")[0].strip()
        if not pid.isdigit():
            path.unlink()
            return
        os.kill(int(pid), 0)
    except (FileNotFoundError, ProcessLookupError):
        return
    except PermissionError:
        pass
    path.unlink()


def rotate_log(home: Path) -> None:
    """Move a large log aside; only while no server runs."""
    path = home / LOG_FILE
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_name(f"{LOG_FILE}.1"))


def _read_from(path: Path, start: int) -> str:
    with path.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def _last_lines(text: str, count: int = 12) -> str:
    return "\n".join(f"    {line}" for line in text.strip().split("\n")[-count:])
