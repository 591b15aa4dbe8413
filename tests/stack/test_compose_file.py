import re
import subprocess
import sys
from shutil import which
from subprocess import DEVNULL, call

import pytest
import yaml

from tests.expectations import succeed
from tests.stack.compose_file import (
    COMPOSE,
    EXAMPLE,
    GIVEN,
    PROJECT,
    REPLICAS,
    SECRETS,
    SETTINGS,
    TUTORIAL,
    TUTORIAL_ENVIRONMENT,
    environment_file,
    services,
    variables_of,
)

ONE_SHOT = {"preflight", "migrate"}
# The one service that an override adds is held to what holds for all.
STACK = services(SETTINGS) | {"balancer": services(SETTINGS, REPLICAS)["balancer"]}
SERVICES = pytest.mark.parametrize("service", STACK.values(), ids=STACK.keys())
# Which secrets a container may have in its environment.
ALLOWED = {
    "preflight": set(),
    "postgres": {name for name in SECRETS if name.endswith("_PASSWORD")}
    - {"MINIO_ROOT_PASSWORD", "GRAFANA_ADMIN_PASSWORD"},
    "s3": {"MINIO_ROOT_PASSWORD"},
    "migrate": {"MLOPS_DATABASE_PASSWORD", "MLFLOW_DATABASE_PASSWORD", "MINIO_ROOT_PASSWORD"},
    "mlflow": {"MLFLOW_DATABASE_PASSWORD", "MINIO_ROOT_PASSWORD"},
    "data-generator": {"GENERATOR_DATABASE_PASSWORD"},
    "pipeline": {"PIPELINE_DATABASE_PASSWORD", "MINIO_ROOT_PASSWORD"},
    "api": {"API_DATABASE_PASSWORD", "MINIO_ROOT_PASSWORD"},
    "prometheus": {"METRICS_API_KEY"},
    "balancer": set(),
    "grafana": {"GRAFANA_ADMIN_PASSWORD"},
}
LOGINS = {
    f"{name}_S3_{kind}": f"{name}-{kind}".lower()
    for name in ("PIPELINE", "API", "MLFLOW")
    for kind in ("USER", "PASSWORD")
}


def test_the_files_follow_the_compose_specification():
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    succeed(*check, COMPOSE, TUTORIAL)


@pytest.mark.skipif(
    which("docker") is None or bool(call(["docker", "compose", "version"], stdout=DEVNULL)),
    reason="Docker's Compose plugin is not installed",
)
@pytest.mark.parametrize("files", [[COMPOSE, TUTORIAL], [COMPOSE, REPLICAS]])
def test_docker_compose_accepts_the_file_and_its_overrides(files):
    options = [text for path in files for text in ("--file", str(path))]
    for environment, said in ((EXAMPLE, "run `make up`"), (TUTORIAL_ENVIRONMENT, "")):
        command = ["docker", "compose", "--env-file", str(environment), *options, "config", "-q"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert said in found.stderr if said else found.stderr == ""
        assert (found.returncode == 0) == (not said)


def test_every_variable_stands_in_the_example_with_the_default_of_the_file():
    example = environment_file(EXAMPLE)
    used = variables_of(COMPOSE) | variables_of(REPLICAS)
    # The last two are read by `make up` alone.
    assert set(used) - GIVEN == set(example) - {"MLOPS_API_KEY", "MLOPS_LOCAL"}
    differing = {
        name: (default, example[name])
        for name, default in used.items()
        if default is not None and default != example[name]
    }
    assert differing == {}


@pytest.mark.parametrize("name", [one for one in SECRETS if one != "MLOPS_API_KEY"])
def test_compose_refuses_to_start_without_a_secret(name):
    with pytest.raises(ValueError, match=f"{name}: run `make up`"):
        services(SETTINGS | {name: ""})


@pytest.mark.parametrize("name", STACK)
def test_a_container_has_the_logins_that_it_needs_and_no_others(name):
    held = str(STACK[name])
    assert {one for one in SECRETS if SETTINGS[one] in held} == ALLOWED[name]


def test_a_service_may_have_a_login_of_its_own_at_the_s3_server():
    found = services(SETTINGS | LOGINS)
    for name in ("pipeline", "api", "mlflow"):
        environment = found[name]["environment"]
        assert environment["AWS_ACCESS_KEY_ID"] == f"{name}-user"
        assert environment["AWS_SECRET_ACCESS_KEY"] == f"{name}-password"
        assert SETTINGS["MINIO_ROOT_PASSWORD"] not in str(environment)


def test_the_tutorial_sets_every_secret_which_stands_nowhere_else_for_this_machine_only():
    tutorial = environment_file(TUTORIAL_ENVIRONMENT)
    assert set(SECRETS) <= set(tutorial)
    assert set(tutorial) < set(environment_file(EXAMPLE))
    wanted = [part for name in SECRETS for part in ("-e", tutorial[name])]
    pages = [f":!{folder}" for folder in ("course", "docs", "notebooks")]
    search = ("git", "-C", PROJECT, "grep", "--files-with-matches", "--fixed-strings", *wanted)
    assert succeed(*search, "--", ".", *pages).splitlines() == ["deploy/tutorial.env"]
    override = yaml.safe_load(TUTORIAL.read_text("utf-8"))["services"]
    published = [port for service in override.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@SERVICES
def test_a_container_is_confined(service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    name, _, tag = service["image"].partition(":")
    if name.startswith("mlops-1/"):
        assert (tag, "user" in service) == ("local", False)
    else:
        assert re.search(r"\d", tag)
        assert str(service["user"]).split(":")[0] not in {"0", "root"}


@pytest.mark.parametrize("name", STACK)
def test_a_service_comes_back_is_checked_and_starts_after_what_it_needs(name):
    if name in ONE_SHOT:
        assert STACK[name]["restart"] == "no"
        assert "healthcheck" not in STACK[name]
    else:
        assert STACK[name]["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "retries"} <= set(STACK[name]["healthcheck"])
    for needed, how in STACK[name].get("depends_on", {}).items():
        finished = "service_completed_successfully"
        assert how["condition"] == (finished if needed in ONE_SHOT else "service_healthy")
    assert name == "preflight" or "preflight" in _all_before(name)


def test_the_dockerfile_has_the_python_of_the_example():
    dockerfile = (PROJECT / "Dockerfile").read_text("utf-8")
    assert f"ARG PYTHON_IMAGE={SETTINGS['PYTHON_IMAGE']}\n" in dockerfile


def _all_before(name: str) -> set[str]:
    needed = set(STACK[name].get("depends_on", {}))
    return needed.union(*(_all_before(one) for one in needed)) if needed else needed
