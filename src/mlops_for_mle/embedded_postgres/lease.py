"""Taking part in the embedded PostgreSQL: lease it, look at it, keep it running, stop it."""

import fcntl
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlops_for_mle.embedded_postgres.cluster import (
    START_SECONDS,
    Cluster,
    ensure_running,
    prepare,
    remove,
    rotate_log,
)
from mlops_for_mle.embedded_postgres.guard import (
    GUARD_LOCK,
    KEEPER_LOCK,
    LEASE_LOCK,
    POLL_SECONDS,
    SERVER_LOCK,
    START_LOCK,
    data_directory,
    find_postmaster,
    is_locked,
    open_in_home,
    stop_postmaster,
    try_lock,
    wait_for_lock,
)
from mlops_for_mle.embedded_postgres.home import (
    check_owner,
    count_holders,
    explained,
    file_of,
    make_home,
    turn,
)
from mlops_for_mle.embedded_postgres.placement import EmbeddedPostgresError, check_not_a_copy
from mlops_for_mle.embedded_postgres.processes import (
    LOG_FILE,
    end_keeper,
    ensure_guard,
    ensure_keeper,
)
from mlops_for_mle.embedded_postgres.server import (
    PASSWORD_FILE,
    USER,
    LoginError,
    Server,
    create_database,
    existing_databases,
)

State = Literal["running", "starting", "stopping", "not answering", "stopped"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """What is known about the server of a home directory without touching it."""

    state: State
    """`running` means that it has just accepted a login with our password."""
    port: int | None
    pid: int | None
    data_directory: Path
    log_file: Path
    holders: int | None
    """Processes that hold a lease, a keeper not counted; None where the system does not tell."""
    kept: bool
    """Whether `keep_running` is in force."""

    @property
    def running(self) -> bool:
        """Whether the server takes connections."""
        return self.state == "running"


@dataclass
class _Lease:
    descriptor: int
    file: tuple[int, int]
    server: Server
    databases: set[str]


_leases: dict[Path, _Lease] = {}
# Also held over a fork, so that no child inherits a lock that another thread is just taking.
_process_lock = threading.RLock()
os.register_at_fork(
    before=_process_lock.acquire,
    after_in_parent=_process_lock.release,
    after_in_child=_process_lock.release,
)


def acquire(home: Path, databases: tuple[str, ...] = ("mlops",)) -> Server:
    """Make sure that the server of a home directory runs, and lease it until this process ends.

    Cheap to call again. Safe from several threads, in forked children, and from several processes
    at once, on an empty home directory too.

    Args:
        home: Directory of the cluster and its files, made if missing.
        databases: Databases that are created if missing.

    Raises:
        EmbeddedPostgresError: If there is no server to be had; the message says why.
    """
    home = home.expanduser().resolve()
    with _process_lock, explained(home):
        lease = _leases.get(home)
        if lease is not None and _is_valid(lease, home):
            if not lease.databases >= set(databases) or not is_locked(home / SERVER_LOCK):
                lease.server = _join_or_start(home, databases, lease.descriptor)
                lease.databases |= set(databases)
            return lease.server
        make_home(home)
        check_not_a_copy(home)
        descriptor = open_in_home(home, LEASE_LOCK)
        try:
            server = _join_or_start(home, databases, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        _leases[home] = _Lease(descriptor, file_of(descriptor), server, set(databases))
        return server


def status(home: Path) -> Status:
    """Look at the server of a home directory without starting it or taking a lease.

    Raises:
        EmbeddedPostgresError: If the home directory belongs to somebody else.
    """
    home = home.expanduser().resolve()
    with explained(home):
        check_owner(home)
        check_not_a_copy(home)
        data, kept = data_directory(home), is_locked(home / KEEPER_LOCK)
        found = find_postmaster(data)
        state: State
        if found is None:
            state = "not answering" if is_locked(home / SERVER_LOCK) else "stopped"
        elif found.state in ("ready", "standby"):
            state = "running" if _answers(_server(home, data, found.port)) else "not answering"
        else:
            state = "stopping" if found.state == "stopping" else "starting"
        return Status(
            state=state,
            port=found.port if found else None,
            pid=found.pid if found else None,
            data_directory=data,
            log_file=home / LOG_FILE,
            holders=count_holders(home, kept),
            kept=kept,
        )


def keep_running(home: Path, databases: tuple[str, ...] = ("mlops",)) -> Server:
    """As `acquire`, and keep the server running after this process has ended, until `stop`.

    Raises:
        EmbeddedPostgresError: If there is no server to be had; the message says why.
    """
    with _process_lock:
        server = acquire(home, databases)
        home = home.expanduser().resolve()
        with explained(home), turn(home):
            ensure_keeper(home)
    return server


def stop(home: Path) -> Status:
    """Stop the server now, even if processes lease it, and end what `keep_running` started.

    Returns:
        The status before: whether it ran, and how many processes have now lost their server.

    Raises:
        EmbeddedPostgresError: If it does not stop, or belongs to somebody else.
    """
    home = home.expanduser().resolve()
    with _process_lock, explained(home):
        check_owner(home)
        check_not_a_copy(home)
        if not (home / START_LOCK).exists():
            return status(home)
        with turn(home):
            before = status(home)
            end_keeper(home)
            stop_postmaster(home)
    if before.running and before.holders:
        logger.warning("Stopped PostgreSQL while %d processes leased it.", before.holders)
    return before


def destroy(home: Path) -> None:
    """Stop the server and delete its databases for good; only the empty lock files stay.

    Raises:
        EmbeddedPostgresError: If the server does not stop, or belongs to somebody else.
    """
    home = home.expanduser().resolve()
    with _process_lock, explained(home):
        check_owner(home)
        check_not_a_copy(home)
        if not (home / START_LOCK).exists():
            return
        with turn(home):
            end_keeper(home)
            stop_postmaster(home)
            remove(home)
        lease = _leases.get(home)
        if lease is not None:
            # Otherwise the next acquire would take databases for existing that are gone.
            lease.databases.clear()


def _join_or_start(home: Path, databases: tuple[str, ...], lease: int) -> Server:
    if try_lock(lease, fcntl.LOCK_SH):
        server = _running_server(home)
        if server is not None and _answers(server, set(databases)):
            return server
    with turn(home):
        # A guard may hold it for a moment, before it waits for the turn that is ours now.
        if not wait_for_lock(lease, fcntl.LOCK_SH, 10):
            raise EmbeddedPostgresError(f"Another program has locked {home / LEASE_LOCK}.")
        if not is_locked(home / SERVER_LOCK):
            rotate_log(home)
        cluster = prepare(home)
        ensure_guard(home)
        server, existing = _start(cluster)
        for database in sorted(set(databases) - existing):
            create_database(server, database)
    logger.info("PostgreSQL serves %s on port %d.", cluster.data, server.port)
    return server


def _running_server(home: Path) -> Server | None:
    """The server as its locks and files tell, if a guard watches over it."""
    if not is_locked(home / GUARD_LOCK) or not is_locked(home / SERVER_LOCK):
        return None
    data = data_directory(home)
    found = find_postmaster(data)
    ready = found is not None and found.state in ("ready", "standby")
    return _server(home, data, found.port) if found and ready else None


def _start(cluster: Cluster) -> tuple[Server, set[str]]:
    """Start the server or wait for it until it accepts a login."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        server = _server(cluster.home, cluster.data, ensure_running(cluster))
        try:
            return server, existing_databases(server)
        except LoginError as error:
            if not error.passing or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def _answers(server: Server, databases: set[str] | None = None) -> bool:
    """Whether the server accepts a login and has these databases."""
    try:
        return existing_databases(server) >= (databases or set())
    except LoginError as error:
        logger.debug("%s", error)
        return False


def _server(home: Path, data: Path, port: int) -> Server:
    return Server(port, USER, home / PASSWORD_FILE, data, home / LOG_FILE)


def _is_valid(lease: _Lease, home: Path) -> bool:
    """Whether nobody has closed the lease's descriptor or removed the home directory."""
    try:
        named = (home / LEASE_LOCK).stat()
        return file_of(lease.descriptor) == lease.file == (named.st_dev, named.st_ino)
    except OSError:
        return False
