#!/bin/sh
# Removes what the project has generated. Stays away from .venv and .tools, and from what is a
# person's own: conf/local, data/01_raw and any .env file.
set -eu

cd "$(dirname "$0")/.."

# A server of predictions holds these locks as long as it runs, whichever database it uses.
for lock in data/serving_spool/*/lock; do
    if [ -e "$lock" ] && command -v flock >/dev/null && ! flock --nonblock "$lock" true; then
        echo 'make: a server of this project runs, such as make serve: end it first.' >&2
        exit 1
    fi
done

if [ -x .venv/bin/kedro ] && [ -e data/postgres ]; then
    # Without it the commands mean the embedded server, never somebody's external one.
    unset DATABASE_URL
    .venv/bin/kedro db destroy --yes
elif [ -e data/postgres ]; then
    echo 'make: data/postgres is kept, as stopping its server needs the environment: call make' \
        'setup, then make clean.' >&2
fi

if [ -d data ]; then
    (
        cd data
        find . \( -path ./01_raw -o -path ./postgres \) -prune -o \
            ! -type d ! -name .gitkeep -exec rm -f {} +
        find . -depth -type d -empty ! -path . ! -path './01_raw*' ! -path './postgres*' \
            -exec rmdir {} \;
    )
fi

find . \( -path ./.venv -o -path ./.tools -o -path ./.git -o -path ./data -o -path ./conf/local \) \
    -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints -o -name '*.egg-info' \) \
    -prune -exec rm -rf {} +
# What the benchmarks have made: peers, projects, files.
if [ -e benchmarks/.cache ]; then
    for cluster in benchmarks/.cache/projects/*/data/postgres; do
        [ -e "$cluster" ] || continue
        MLOPS_PROJECT_PATH=$(dirname "$(dirname "$cluster")") .venv/bin/kedro db destroy --yes
    done
    rm -rf benchmarks/.cache
fi
rm -rf .benchmarks .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
    .pytest_cache .ruff_cache .viz build coverage.xml dist htmlcov info.log mlartifacts \
    mlflow.db mlruns
