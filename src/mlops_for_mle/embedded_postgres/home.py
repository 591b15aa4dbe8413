"""The home directory of the embedded server: whose it is, whose turn it is, who holds a lease."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_for_mle.embedded_postgres.cluster import START_SECONDS
from mlops_for_mle.embedded_postgres.guard import (
    LEASE_LOCK,
    START_LOCK,
    open_in_home,
    wait_for_lock,
)
from mlops_for_mle.embedded_postgres.placement import EmbeddedPostgresError, user_name
from mlops_for_mle.embedded_postgres.processes import LOG_FILE

# Long enough for another process to start a server in crash recovery, or to stop a busy one.
TURN_SECONDS = START_SECONDS + 60


def make_home(home: Path) -> None:
    """Make the directory where it is missing.

    Raises:
        EmbeddedPostgresError: It belongs to somebody else.
    """
    if not home.exists():
        home.mkdir(parents=True, exist_ok=True)
        # Root's server runs as another user, who has to pass; what is secret in there is 0600.
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    check_owner(home)


def check_owner(home: Path) -> None:
    """Check that the directory and its cluster are this user's; root may use everybody's.

    Raises:
        EmbeddedPostgresError: They are not; says what to do.
    """
    me = os.geteuid()
    for path in (home, home / "cluster"):
        if me == 0 or not path.exists() or path.stat().st_uid == me:
            continue
        owner = user_name(path.stat().st_uid)
        raise EmbeddedPostgresError(
            f"{path} belongs to {owner}, and you are {user_name(me)}. Run this as "
            f"{user_name(home.stat().st_uid)}, or remove {home} to begin with an empty database, "
            "or set DATABASE_URL to a PostgreSQL of your own."
        )


@contextmanager
def explained(home: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one sentence.

    Raises:
        EmbeddedPostgresError: Where an ``OSError`` was raised.
    """
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(f"The embedded PostgreSQL in {home} failed: {error}") from error


@contextmanager
def turn(home: Path) -> Iterator[None]:
    """Be the only process that starts or stops the server.

    Raises:
        EmbeddedPostgresError: Others have taken their turn for too long.
    """
    descriptor = open_in_home(home, START_LOCK)
    try:
        if not wait_for_lock(descriptor, fcntl.LOCK_EX, TURN_SECONDS):
            raise EmbeddedPostgresError(
                f"Another process has been starting or stopping the PostgreSQL in {home} for more "
                f"than {TURN_SECONDS:.0f} s; see {home / LOG_FILE}."
            )
        yield
    finally:
        # Said explicitly: a descriptor copied by a fork would hold the lock beyond the close.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def file_of(descriptor: int) -> tuple[int, int]:
    """Device and inode of an open file, which tell it from a later one of the same name."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def count_holders(home: Path, kept: bool) -> int | None:
    """How many processes lease the server, the keeper left out; None where nobody can tell."""
    if sys.platform != "linux":
        return None
    try:
        inode = str((home / LEASE_LOCK).stat().st_ino)
    except FileNotFoundError:
        return 0
    try:
        lines = Path("/proc/locks").read_text().split("\n")
    except OSError:
        return None
    # `1: FLOCK ADVISORY READ <pid> <major>:<minor>:<inode> 0 EOF`; `->` comes before what waits.
    fields = [line.split() for line in lines]
    held = [field[5].split(":")[-1] for field in fields if field[1:4:2] == ["FLOCK", "READ"]]
    return max(0, held.count(inode) - kept)
