#!/bin/sh
# Removes what the project itself has written and nothing else: neither a person's files in data,
# nor conf/local, .env, .venv or .tools.
set -eu

cd "$(dirname "$0")/.."

# A server of predictions holds the lock of the file that it writes, whichever database it uses.
for log in data/serving_spool/*.log; do
    if [ -e "$log" ] && command -v flock >/dev/null && ! flock --nonblock "$log" true; then
        echo 'make: a server of this project runs, such as make serve: end it first.' >&2
        exit 1
    fi
done

# Stopping a server needs the environment; without DATABASE_URL the embedded one is meant.
for cluster in data/postgres benchmarks/.cache/projects/*/data/postgres; do
    # Its lock files stay.
    [ -n "$(find "$cluster" ! -type d ! -name '*.lock' 2>/dev/null | head -n 1)" ] || continue
    if [ ! -x .venv/bin/python ]; then
        echo "make: $cluster is kept: call make setup, then make clean." >&2
        continue
    fi
    env -u DATABASE_URL MLOPS_PROJECT_PATH="$PWD/${cluster%data/postgres}" \
        .venv/bin/python -m kedro db destroy --yes
done

# The datasets of the catalog; one may write a second file with another ending.
catalog() {
    sed -n 's/.*{globals:data_folder}\/\([[:alnum:]_/-]*\)\..*/\1/p' conf/*/catalog*.yml
    printf '%s\n' 07_model_output/predictions 07_model_output/predictions_rejects
}
sed -n 's/^data_folder: *\([^#]*[^# ]\).*/\1/p' conf/*/globals.yml | tr -d "\"'" | sort -ru |
    while IFS= read -r folder; do
        catalog | while IFS= read -r stem; do rm -rf "$folder/$stem".*; done
        rmdir "$folder"/0[5-8]_* "$folder" 2>/dev/null || true
    done
rm -rf data/02_intermediate/load_*-scikit-learn-* data/mlflow data/releases \
    data/serving_cache data/serving_spool
rmdir data/02_intermediate 2>/dev/null || true

find src tests benchmarks scripts -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
rm -rf .benchmarks .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
    .pytest_cache .ruff_cache .viz benchmarks/.cache build/docs site
