#!/bin/sh
# The Docker Compose stack: stack.sh up|demo|logs|down. PROFILE names any of: tutorial observability
# replicas. VOLUMES=1 lets `down` delete the data.
set -eu

cd "$(dirname "$0")/.."
project_label=com.docker.compose.project
folder_label=com.docker.compose.project.working_dir

fail() {
    printf 'make: %s\n' "$1" >&2
    exit 1
}

environment=.env
options='--file docker-compose.yaml'
for name in ${PROFILE:-}; do
    case $name in
        tutorial) environment=deploy/tutorial.env options="$options --file docker-compose.tutorial.yaml" ;;
        replicas) options="$options --file docker-compose.replicas.yaml" ;;
        observability) options="$options --profile observability" ;;
        *) fail "PROFILE: expected any of tutorial, observability, replicas (found '$name')." ;;
    esac
done

compose() {
    # shellcheck disable=SC2086  # words without blanks
    docker compose --env-file "$environment" $options "$@"
}

value_of() {
    sed -n "s/^$1=//p" "$environment" | tail -n 1
}

# The name belongs to the folder, also when .env is gone.
project() {
    if [ -f "$environment" ]; then
        value_of COMPOSE_PROJECT_NAME
    else
        echo "mlops-$(printf %s "$PWD" | cksum | cut -d ' ' -f 1)"
    fi
}

# What stands empty above the example's first blank line, after the name.
secrets() {
    sed -n '/^$/q; /^COMPOSE/d; s/^\([A-Z_]*\)=$/\1/p' .env.example
}

write_environment() (
    umask 077
    sed "s/^COMPOSE_PROJECT_NAME=$/&$(project)/" .env.example >.env.new
    for name in $(secrets); do
        random=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
        sed "s/^$name=$/&$random/" .env.new >.env.newer
        mv .env.newer .env.new
    done
    mv .env.new .env
    echo 'Random secrets were written to .env.'
)

check_environment() {
    [ -n "$(project)" ] || fail "COMPOSE_PROJECT_NAME has no value in .env, such as mlops."
    for name in $(secrets); do
        value=$(value_of "$name")
        case $value in
            '') fail "$name has no value in $environment." ;;
            *[!A-Za-z0-9._~-]*) fail "$name in $environment may hold only letters, digits and . _ ~ -" ;;
        esac
        [ ${#value} -ge 16 ] || [ "$(value_of MLOPS_LOCAL)" = 1 ] ||
            fail "$name in .env has ${#value} characters; it needs 16."
    done
    other=$(docker ps --all --filter "label=$project_label=$(project)" \
        --format "{{.Label \"$folder_label\"}}" | grep -vxF "$PWD" | head -n 1) || true
    [ -z "$other" ] || [ ! -d "$other" ] || fail "The stack $(project) belongs to $other: run make down \
there, or, where $environment is a copy, move it away."
}

check_ports() {
    for port in $(compose config | sed -n 's/^ *published: "\(.*\)"$/\1/p'); do
        own=$(docker ps --quiet --filter "publish=$port" --filter "label=$project_label=$(project)")
        [ -z "$own" ] || continue
        status=0
        curl --silent --max-time 1 "telnet://127.0.0.1:$port" </dev/null >/dev/null 2>&1 || status=$?
        # Nobody listens, or there is no curl.
        case $status in 7 | 127) continue ;; esac
        holder=$(docker ps --filter "publish=$port" \
            --format "the stack {{.Label \"$project_label\"}} in {{.Label \"$folder_label\"}}")
        fail "Port $port is taken by ${holder:-another program}: end that (a stack with make down in \
its folder), or choose another port in $environment."
    done
}

digest() {
    printf %s "$(value_of "$1")" | { sha256sum 2>/dev/null || shasum -a 256; } | cut -d ' ' -f 1
}

up() {
    if [ ! -f "$environment" ]; then
        [ -z "$(docker volume ls --quiet --filter "label=$project_label=$(project)")" ] || fail "There is \
no .env, but data of this folder that only its passwords open: put .env back, or delete the data with \
make down VOLUMES=1."
        write_environment
    fi
    check_environment
    check_ports
    echo 'Making the images; the first time takes minutes.'
    REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown) compose build || fail "The images could \
not be made; Docker says above why. PYTHON_IMAGE and PIP_INDEX_URL in .env name other sources."
    compose pull --quiet --policy missing || fail "An image is missing and cannot be had; Docker says \
above which and why. .env may name another."
    echo 'Starting. The first time includes the first training; each service has to be healthy.'
    API_KEY_SHA256=$(digest MLOPS_API_KEY) METRICS_KEY_SHA256=$(digest METRICS_API_KEY) \
        compose up --detach --remove-orphans --wait --wait-timeout "${WAIT:-900}" || {
        compose ps --all
        fail 'Not everything became healthy: look at make logs.'
    }
    # It holds the logins of the owners.
    compose rm --force migrate >/dev/null 2>&1
    host=$(value_of BIND_ADDRESS)
    cat <<PAGES

  API         http://$host:$(value_of API_PORT)/docs
  MLflow      http://$host:$(value_of MLFLOW_PORT)
  S3 console  http://$host:$(value_of S3_CONSOLE_PORT), user $(value_of MINIO_ROOT_USER)
  Prometheus  http://$host:$(value_of PROMETHEUS_PORT), with PROFILE=observability
  Grafana     http://$host:$(value_of GRAFANA_PORT), the same, user $(value_of GRAFANA_ADMIN_USER)
  Passwords and the API key are in $environment.
PAGES
}

demo() {
    up
    printf '\nRunning all pipelines once more, on the rows that came in meanwhile.\n'
    compose exec -T pipeline kedro run
    printf '\nOne prediction:\n'
    # Not among the arguments, which everybody on the machine can read.
    printf 'X-API-Key: %s\n' "$(value_of MLOPS_API_KEY)" |
        curl --fail-with-body -sS --max-time 10 --header @- --header 'content-type: application/json' \
            --data '{"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}' \
            "http://$(value_of BIND_ADDRESS):$(value_of API_PORT)/predict" --write-out '\n'
}

# This folder's stacks, by their labels, whatever .env and profile they were started with.
stacks() {
    docker ps --all --filter "label=$folder_label=$PWD" --format "{{.Label \"$project_label\"}}" | sort -u
}

# The tutorial's settings stand in for those of a .env that is gone.
compose_any() {
    environment=deploy/tutorial.env
    options="--project-name $1 --profile observability --profile data-generator --file docker-compose.yaml"
    [ "$1" != mlops-tutorial ] || options="$options --file docker-compose.tutorial.yaml"
    shift
    compose "$@"
}

down() {
    found=$(stacks)
    [ -z "${VOLUMES:-}" ] || found=$(printf '%s\n' "$found" "$(project)" | sort -u)
    [ -n "$found" ] || echo 'Nothing of this folder is up.'
    for name in $found; do
        (compose_any "$name" down --remove-orphans ${VOLUMES:+--volumes})
    done
}

logs() {
    found=$(stacks | head -n 1)
    [ -n "$found" ] || fail 'Nothing of this folder is up: run make up.'
    compose_any "$found" logs --follow --tail "${TAIL:-100}"
}

{ docker compose version && docker info; } >/dev/null 2>&1 || fail "The stack needs Docker \
with the Compose plugin, and its daemon has to answer (docker info); make run needs neither."
case ${1:-} in
    up | demo | logs | down) "$1" ;;
    *) fail 'expected up, down, logs or demo.' ;;
esac
