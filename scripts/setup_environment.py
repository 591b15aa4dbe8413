"""Bring `.venv` in line with `uv.lock`, installing uv into the project folder when it is missing.

Started by `setup.sh`, which has chosen the interpreter (`UV_PYTHON`). Needs the standard library
only and writes only inside the project folder and to uv's own cache. One `make` at a time
changes anything (a kernel file lock, which a killed process gives back); whatever a killed one
left half-made is made again.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UV_VERSION = "0.13.9"
OLDEST_USABLE_UV = (0, 8)
PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
TOOLS = PROJECT / ".tools"
PRIVATE_UV = TOOLS / f"uv-{UV_VERSION}" / "bin" / "uv"
RECORD = TOOLS / "environment"
# What uv itself puts into a virtual environment before and beside pyvenv.cfg.
VENV_CONTENT = {".gitignore", ".lock", "CACHEDIR.TAG", "bin", "include", "lib", "lib64", "share"}
# Settings of the caller's shell that contradict `uv sync --locked` into the project's `.venv`.
FOREIGN_SETTINGS = (
    "PYTHONHOME",
    "UV_FROZEN",
    "UV_LOCKED",
    "UV_MANAGED_PYTHON",
    "UV_NO_DEV",
    "UV_NO_MANAGED_PYTHON",
    "UV_PROJECT",
    "UV_PROJECT_ENVIRONMENT",
    "UV_WORKING_DIRECTORY",
    "VIRTUAL_ENV",
)


# Where Debian, Fedora, openSUSE, and Alpine or macOS keep the certificates they trust.
SYSTEM_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class SetupError(Exception):
    """The environment cannot be made; the message tells the user what to do."""


def main() -> int:
    """Make the environment ready and return the exit status."""
    # The default action ends this process without a traceback; the record tells the next call.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        environment = uv_environment()
        uv = find_uv()
        if uv is None or not is_current(uv, environment):
            with setup_lock() as lock:
                uv = find_uv() or install_uv(lock)
                if not is_current(uv, environment):
                    synchronize(uv, environment, lock)
    except SetupError as error:
        say(f"make: {error}")
        return 1
    except OSError as error:
        say(
            f"make: The environment must be brought up to date, but {error.filename} cannot be "
            f"read or changed ({error.strerror}): run this as the owner of {PROJECT}."
        )
        return 1
    return 0


def say(message: str) -> None:
    """Tell the user on standard error, so that a target's own output stays clean."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def uv_environment() -> dict[str, str]:
    """Return the environment variables for uv."""
    environment = {k: v for k, v in os.environ.items() if k not in FOREIGN_SETTINGS}
    environment["UV_PYTHON"] = os.environ.get("UV_PYTHON") or sys.executable
    environment["UV_PYTHON_DOWNLOADS"] = "never"
    if any(os.access(bundle, os.R_OK) for bundle in SYSTEM_CERTIFICATES):
        # A network that inspects TLS has its certificate in the system's store, not in uv's.
        for name in ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS"):
            environment.setdefault(name, "true")
    cache = cache_directory(environment)
    environment["UV_CACHE_DIR"] = str(cache)
    if nearest_existing(cache).stat().st_dev != PROJECT.stat().st_dev:
        # Hard links do not cross file systems; uv would warn and copy.
        environment.setdefault("UV_LINK_MODE", "copy")
    return environment


def cache_directory(environment: dict[str, str]) -> Path:
    """Return uv's usual cache folder, or one in the project when that cannot be written."""
    if configured := environment.get("UV_CACHE_DIR"):
        return PROJECT / configured
    if xdg_cache := environment.get("XDG_CACHE_HOME"):
        usual = Path(xdg_cache) / "uv"
    elif home := environment.get("HOME"):
        usual = Path(home) / ".cache" / "uv"
    else:
        return TOOLS / "cache"
    writable = usual.is_absolute() and os.access(nearest_existing(usual), os.W_OK | os.X_OK)
    return usual if writable else TOOLS / "cache"


def nearest_existing(path: Path) -> Path:
    """Return the path itself or its closest parent that can be seen to exist."""
    # Path.exists raises below a folder that may not be entered.
    return next(p for p in (path, *path.parents) if os.access(p, os.F_OK))


def find_uv() -> str | None:
    """Return a usable uv: the one named by `UV`, the one on PATH, or the project's own."""
    if named := os.environ.get("UV"):
        if not is_usable(named):
            oldest = ".".join(map(str, OLDEST_USABLE_UV))
            raise SetupError(
                f"UV is '{named}', which does not run as uv {oldest} or newer: correct or unset it."
            )
        return named
    on_path = shutil.which("uv")
    return next((uv for uv in (on_path, str(PRIVATE_UV)) if uv and is_usable(uv)), None)


def is_usable(uv: str) -> bool:
    """Say whether this uv runs and is new enough to read the lock file."""
    try:
        answer = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    version = re.match(r"uv (\d+)\.(\d+)", answer.stdout)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST_USABLE_UV


def is_current(uv: str, environment: dict[str, str]) -> bool:
    """Say whether `.venv` was completed at this place and holds what the lock file says."""
    if read_record() not in (None, f"complete {VENV}"):
        return False
    command = [uv, "sync", "--locked", "--check", "--quiet"]
    answer = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=False)
    return answer.returncode == 0


def read_record() -> str | None:
    """Return the last recorded state and place of `.venv`, if there is a record."""
    try:
        return RECORD.read_text(encoding="utf-8").rstrip("\n")
    except FileNotFoundError:
        return None


def write_record(state: str) -> None:
    """Replace the record in one step."""
    temporary = RECORD.with_suffix(".new")
    temporary.write_text(f"{state} {VENV}\n", encoding="utf-8")
    temporary.replace(RECORD)


@contextmanager
def setup_lock() -> Iterator[int]:
    """Hold the project's setup lock; yields its descriptor for child processes to share."""
    TOOLS.mkdir(exist_ok=True)
    lock = os.open(TOOLS / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another make is setting up the environment; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def install_uv(lock: int) -> str:
    """Install uv below `.tools` and return its path."""
    say(f"Installing uv {UV_VERSION} into {TOOLS.name}/ (once).")
    target = PRIVATE_UV.parent.parent
    partial = target.with_name(target.name + ".partial")
    for leftover in (partial, target):
        remove(leftover)
    options = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", f"uv=={UV_VERSION}"]
    answer = run_captured([*pip_install(partial, lock), *options], lock)
    if answer.returncode != 0:
        raise SetupError(
            f"pip could not install uv {UV_VERSION} (its words follow); check the network, or "
            f"install uv yourself and call make again.\n{answer.stdout.strip()}"
        )
    partial.rename(target)
    if not is_usable(str(PRIVATE_UV)):
        raise SetupError(
            f"{PRIVATE_UV} was installed but does not run here: install uv yourself and call "
            "make again."
        )
    return str(PRIVATE_UV)


def pip_install(target: Path, lock: int) -> list[str]:
    """Return the command that installs into the target: a new venv's pip, or the interpreter's."""
    if run_captured([sys.executable, "-I", "-m", "venv", str(target)], lock).returncode == 0:
        return [str(target / "bin" / "python"), "-I", "-m", "pip", "install"]
    # Debian's Python makes half a venv and then fails when the package python3-venv is missing.
    remove(target)
    if run_captured([sys.executable, "-m", "pip", "--version"], lock).returncode == 0:
        return [sys.executable, "-m", "pip", "install", "--target", str(target)]
    raise SetupError(
        f"{sys.executable} has neither venv with ensurepip nor pip, so uv cannot be installed: "
        "install one of them (Debian, Ubuntu: apt install python3-venv) or uv itself, "
        "and call make again."
    )


def run_captured(command: list[str], lock: int) -> subprocess.CompletedProcess[str]:
    """Run a command of the bootstrap with its output kept for an error message."""
    # These would send an installation elsewhere or forbid one into a folder.
    redirecting = {"PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "PIP_ROOT", "PIP_TARGET", "PIP_USER"}
    return subprocess.run(
        command,
        env={k: v for k, v in os.environ.items() if k not in redirecting},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        pass_fds=(lock,),
    )


def synchronize(uv: str, environment: dict[str, str], lock: int) -> None:
    """Make `.venv` what the lock file says, anew if it was left half-made or was moved."""
    run_uv([uv, "lock", "--check", "--quiet"], environment, lock)
    if read_record() not in (None, f"complete {VENV}"):
        say("The environment was left half-made or has been moved; making it again.")
        remove(VENV)
    elif not (VENV / "pyvenv.cfg").exists() and VENV.is_dir():
        if foreign := {entry.name for entry in VENV.iterdir()} - VENV_CONTENT:
            raise SetupError(
                f"{VENV} is not a virtual environment and holds {sorted(foreign)[0]}: "
                "move it away and call make again."
            )
        remove(VENV)
    if not VENV.exists():
        version = ".".join(map(str, sys.version_info[:3]))
        say(f"Making the environment .venv with Python {version}; the first time takes minutes.")
    write_record("unfinished")
    run_uv([uv, "sync", "--locked", "--color=never"], environment, lock)
    write_record("complete")


def remove(folder: Path) -> None:
    """Remove a folder or a link to one, if it is there."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def run_uv(command: list[str], environment: dict[str, str], lock: int) -> None:
    """Run uv and pass on what it says, but for its long lists of packages."""
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=(lock,),
    ) as process:
        for line in process.stderr or ():
            if not line.startswith((" + ", " - ", " ~ ", " Downloaded ")):
                say(line.rstrip("\n"))
    if process.returncode != 0:
        raise SetupError(
            "uv could not bring .venv in line with uv.lock; its words are above "
            f"(uv here is {command[0]})."
        )


if __name__ == "__main__":
    sys.exit(main())
