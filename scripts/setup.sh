#!/bin/sh
# Finds a suitable Python that is already on this machine and lets it bring .venv up to date.
# Reads UV_PYTHON or PYTHON: a path or command, or a version such as 3.12.
set -u

cd "$(dirname "$0")/.." || exit 1

# Prints the version and the path of the interpreter if it is a CPython that uv.lock covers.
check='
import sys
version = sys.version_info[:3]
plain = sys.implementation.name == "cpython" and "t" not in sys.abiflags
if (3, 11) <= version[:2] < (3, 14) and plain:
    print("%d.%d.%d" % version + " " + (getattr(sys, "_base_executable", None) or sys.executable))
'
requested=${UV_PYTHON:-${PYTHON:-}}
wanted_version=
python=

fail() {
    printf 'make: %s\n' "$1" >&2
    exit 1
}

# A command on PATH proves nothing (version managers leave shims that fail), so it is really run.
accept() {
    answer=$("$1" -I -S -c "$check" 2>/dev/null </dev/null) || return 1
    [ -n "$answer" ] || return 1
    case ${answer%% *}. in
        "$wanted_version".* | "$wanted_version") ;;
        *) [ -z "$wanted_version" ] || return 1 ;;
    esac
    python=${answer#* }
}

search() {
    accept .venv/bin/python && return
    for candidate in python3.12 python3.13 python3.11 python3 python \
        "${HOME:-}"/.pyenv/versions/3.12*/bin/python \
        "${HOME:-}"/.pyenv/versions/3.1[13]*/bin/python \
        /opt/homebrew/bin/python3.1[123] /usr/local/bin/python3.1[123]; do
        accept "$candidate" && return
    done
    found=$("${UV:-uv}" python find --no-project --no-python-downloads \
        "${wanted_version:->=3.11,<3.14}" 2>/dev/null </dev/null) && accept "$found"
}

case $requested in
    '')
        search || fail "No Python 3.11, 3.12 or 3.13 was found on PATH, under ~/.pyenv or by uv: install one \
(Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12; with uv: \
uv python install 3.12) or name one with make setup PYTHON=/path/to/python."
        ;;
    *[!0-9.]* | .*)
        accept "$requested" || fail "UV_PYTHON or PYTHON is '$requested', which does not run as a CPython 3.11, \
3.12 or 3.13: name a path, a command or a version such as 3.12, or unset it."
        ;;
    *)
        wanted_version=$requested
        search || fail "UV_PYTHON or PYTHON asks for version '$requested', which was not found on this machine \
within the versions allowed (3.11, 3.12, 3.13): install it, name another or unset the variable."
        ;;
esac

UV_PYTHON=$python exec "$python" -I scripts/setup_environment.py
