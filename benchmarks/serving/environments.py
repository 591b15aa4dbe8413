"""Makes an environment for each peer, with the exact versions of ``requirements/<name>.txt``."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements"

# Environments, the trained model and results; outside of version control.
CACHE = HERE / ".cache"

# The requirements are resolved for the first; the others are tried where it is not installed.
PYTHONS = ("3.12", "3.11", "3.13")

_STAMP = "installed.sha256"


class NotInstallableError(Exception):
    """A peer cannot be installed here; the message is uv's reason."""


def ensure(name: str, cache: Path) -> Path:
    """Install a peer, unless these versions are installed already.

    Returns:
        The environment's folder.

    Raises:
        NotInstallableError: No Python that it supports is here, or a package cannot be had.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = cache / name
    # An environment that was moved no longer works.
    digest = hashlib.sha256(requirements.read_bytes() + bytes(folder)).hexdigest()
    stamp = folder / _STAMP
    if stamp.exists() and stamp.read_text() == digest:
        return folder
    print(f"installing {name} into {folder} …", flush=True)
    reasons = []
    for python in PYTHONS:
        try:
            _uv("venv", "--quiet", "--clear", "--python", _interpreter(python), str(folder))
            _uv(
                *("pip", "install", "--quiet", "--python", str(folder / "bin" / "python")),
                *("--requirements", str(requirements)),
            )
        except NotInstallableError as error:
            reasons.append(f"Python {python}: {error}")
            continue
        stamp.write_text(digest)
        return folder
    raise NotInstallableError("; ".join(reasons))


def lock() -> None:
    """Write ``requirements/*.txt`` anew from the ``.in`` files beside them."""
    for source in sorted(REQUIREMENTS.glob("*.in")):
        print(f"resolving {source.name} …", flush=True)
        _uv(
            *("pip", "compile", "--quiet", "--universal", "--upgrade"),
            *("--python", _interpreter(PYTHONS[0])),
            *("--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"),
            *("--output-file", str(source.with_suffix(".txt")), str(source)),
        )


def _interpreter(version: str) -> str:
    """The project's own Python where it is of the version, else one that uv finds."""
    own = ".".join(map(str, sys.version_info[:2]))
    base = Path(sys.base_prefix) / "bin" / f"python{own}"
    return str(base) if own == version and base.exists() else version


def _uv(*arguments: str) -> None:
    finished = subprocess.run(
        [find_uv(), *arguments], capture_output=True, text=True, check=False, cwd=HERE
    )
    if finished.returncode != 0:
        lines = [line.strip() for line in finished.stderr.splitlines() if line.strip()]
        raise NotInstallableError(" ".join(lines[-4:]) or f"uv ended with {finished.returncode}")


def find_uv() -> str:
    """The uv that the project's set-up has brought, else the one on PATH.

    Raises:
        NotInstallableError: There is none.
    """
    own = sorted(PROJECT.glob(".tools/uv-*/bin/uv"))
    found = str(own[-1]) if own else shutil.which("uv")
    if found is None:
        raise NotInstallableError("uv was not found: run `make setup` first")
    return found
