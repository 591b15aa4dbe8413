#!/bin/sh
# The Docker Compose stack: stack.sh up|down|logs|demo. PROFILE names any of: tutorial observability.
# VOLUMES=1 lets `down` delete the data.
set -eu

cd "$(dirname "$0")/.."

fail() {
    printf 'make: %s\n' "$1" >&2
    exit 1
}

random_text() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

# Secrets are random and only the owner can read them.
write_environment() {
    (
        umask 077
        while IFS= read -r line; do
            case $line in
                *=change-me) printf '%s=%s\n' "${line%%=*}" "$(random_text)" ;;
                *) printf '%s\n' "$line" ;;
            esac
        done <.env.example >.env.new
        mv .env.new .env
    )
    echo 'Random secrets were written to .env.'
}

value_of() {
    sed -n "s/^$1=//p" "$environment" | tail -n 1
}

compose() {
    docker compose --env-file "$environment" $files $profiles "$@"
}

environment=.env
files='--file docker-compose.yaml'
profiles=
for name in ${PROFILE:-}; do
    case $name in
        tutorial)
            environment=deploy/tutorial.env
            files="$files --file docker-compose.tutorial.yaml"
            ;;
        observability) profiles='--profile observability' ;;
        *) fail "PROFILE: expected tutorial, observability or both (found '$name')." ;;
    esac
done

docker compose version >/dev/null 2>&1 || fail 'Docker with the Compose plugin is needed for the stack; make run needs neither.'
docker info >/dev/null 2>&1 || fail 'The Docker daemon does not answer: start Docker, or look at docker info.'

if [ ! -f "$environment" ]; then
    [ "${1:-}" = up ] || [ "${1:-}" = demo ] || fail 'There is no .env, so the stack was never up: run make up.'
    write_environment
fi

up() {
    REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)
    export REVISION
    compose build --quiet
    echo 'Starting. The first time includes the first training; each service has to be healthy.'
    compose up --detach --wait --wait-timeout "${WAIT:-600}" || {
        compose ps --all
        fail 'Not everything became healthy: look at make logs.'
    }
    show_pages
}

show_pages() {
    host=$(value_of BIND_ADDRESS)
    echo
    echo "  API         http://$host:$(value_of API_PORT)/docs"
    echo "  MLflow      http://$host:$(value_of MLFLOW_PORT)"
    echo "  S3 console  http://$host:$(value_of S3_CONSOLE_PORT), user $(value_of MINIO_ROOT_USER)"
    if [ -n "$profiles" ]; then
        echo "  Prometheus  http://$host:$(value_of PROMETHEUS_PORT)"
        echo "  Grafana     http://$host:$(value_of GRAFANA_PORT), user $(value_of GRAFANA_ADMIN_USER)"
    fi
    echo "  Passwords and the API key are in $environment."
}

demo() {
    up
    echo
    echo 'Running all pipelines once more, on the rows that came in meanwhile.'
    compose exec -T pipeline run_pipeline
    echo
    echo 'One prediction:'
    curl --fail-with-body --silent --show-error --max-time 10 \
        --header "X-API-Key: $(value_of MLOPS_API_KEY)" --header 'content-type: application/json' \
        --data '{"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}' \
        "http://$(value_of BIND_ADDRESS):$(value_of API_PORT)/predict"
    echo
    show_pages
}

case ${1:-} in
    up) up ;;
    demo) demo ;;
    down)
        # Whatever profiles an earlier `up` had: nothing of it stays behind.
        profiles='--profile observability --profile data-generator'
        compose down --remove-orphans ${VOLUMES:+--volumes}
        ;;
    logs) compose logs --follow --tail "${TAIL:-100}" ;;
    *) fail 'expected up, down, logs or demo.' ;;
esac
