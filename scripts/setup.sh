#!/bin/sh
# Brings .venv in line with uv.lock, by the uv on PATH or one that it installs into .tools once.
# PYTHON or UV_PYTHON names the interpreter: a version such as 3.12, a command or a path.
# Arguments are passed on to uv, such as --group notebooks.
set -eu

cd "$(dirname "$0")/.."
version=0.13.9
tools=$PWD/.tools

fail() {
    printf 'make: %s\n' "$1" >&2
    exit 1
}

# Globs of Kedro, URLs and SQL of MLflow, and the shell of initdb take these for something else.
case $PWD in
*[]\[?*%\'\"\$\`\\]*) fail "The folder's path is $PWD: move it to one without [ ] ? * % ' \" \$ \` \\." ;;
esac

# What the caller's shell may have for other projects.
unset VIRTUAL_ENV PYTHONHOME UV_PROJECT UV_PROJECT_ENVIRONMENT UV_WORKING_DIRECTORY UV_FROZEN \
    UV_LOCKED UV_NO_DEV PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_ROOT PIP_TARGET PIP_USER
export UV_PYTHON="${UV_PYTHON:-${PYTHON:-}}" UV_PYTHON_DOWNLOADS="${UV_PYTHON_DOWNLOADS:-never}"
[ -n "${UV_CACHE_DIR:-}" ] || [ -w "${HOME:-/none}" ] || export UV_CACHE_DIR="$tools/cache"
# A network that inspects TLS has its certificate in the system's store, not in uv's.
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    [ ! -r "$bundle" ] || export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
done
# uv looks for interpreters on PATH; pyenv keeps them elsewhere.
for folder in "${HOME:-}"/.pyenv/versions/3.*/bin; do PATH=$PATH:$folder; done

# uv.lock has PyPI's addresses. Who uses another index gets the same files from it, by their hashes.
user=${XDG_CONFIG_HOME:-${HOME:-}/.config}
index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-$(sed -n 's/^ *index-url *[=:] *//p' \
    "$user/pip/pip.conf" "${HOME:-}/.pip/pip.conf" /etc/pip.conf 2>/dev/null | head -n 1)}}}
lock=--locked
[ -z "$index" ] || export UV_DEFAULT_INDEX="$index" lock=--frozen

find_uv() {
    for uv in uv "$tools/uv-$version/bin/uv"; do
        case $("$uv" --version 2>/dev/null) in '' | 'uv 0.'[0-7].*) ;; *) return ;; esac
    done
    false
}

install_uv() {
    echo "Installing uv $version into .tools (once)." >&2
    for python in "${UV_PYTHON:-python3}" python3 python3.11 python3.12 python3.13 python3.14; do
        rm -rf "$tools/partial" "$tools/uv-$version"
        if "$python" -m venv "$tools/partial" >/dev/null 2>&1; then
            set -- "$tools/partial/bin/python" -m pip install
        elif "$python" -m pip --version >/dev/null 2>&1; then
            # Into what venv has made, half of an environment.
            set -- "$python" -m pip install --upgrade --target "$tools/partial"
        fi
        [ $# = 0 ] || break
    done
    [ $# -gt 0 ] || fail "No Python with venv or pip was found to install uv with: install one (Debian, \
Ubuntu: apt install python3-venv; macOS: brew install python) or uv itself."
    said=$("$@" "uv==$version" 2>&1) || fail "pip could not install uv $version: $said"
    mv "$tools/partial" "$tools/uv-$version"
    find_uv || fail "uv $version was installed into .tools and does not run."
}

is_complete() { [ "$(cat .venv/complete 2>/dev/null)" = "$PWD" ]; }

# The JupyterLab that is there stays, as it may be running.
[ ! -e .venv/bin/jupyter-lab ] || set -- --group notebooks

make_environment() {
    # uv takes a half-made environment for whole, and scripts of a moved one name the old place.
    is_complete || [ ! -e .venv/pyvenv.cfg ] || rm -rf .venv
    [ -e .venv ] || echo 'Making .venv; the first time takes minutes.'
    rm -f .venv/complete
    if [ "$lock" = --frozen ]; then
        "$uv" export --frozen --quiet --no-emit-project "$@" --output-file "$tools/requirements.txt" &&
            "$uv" venv --quiet --clear &&
            "$uv" pip sync --python .venv --require-hashes "$tools/requirements.txt" || return
    fi
    "$uv" sync "$lock" "$@" --color never && pwd >.venv/complete
}

find_uv && is_complete && "$uv" sync "$lock" "$@" --check --quiet 2>/dev/null && exit
mkdir -p "$tools"
exec 9>"$tools/lock"
if command -v flock >/dev/null && ! flock -n 9; then
    echo 'Waiting for another make that sets up the environment.' >&2
    flock 9
fi
find_uv || install_uv
make_environment "$@" 2>&1 | sed '/^ [-+~D]/d' >&2
is_complete || fail 'uv could not bring .venv in line with uv.lock; its words are above.'
