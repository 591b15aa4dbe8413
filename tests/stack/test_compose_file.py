import re
import sys

import pytest

from tests import PROJECT
from tests.expectations import succeed
from tests.stack.compose_file import (
    COMPOSE,
    EXAMPLE,
    REPLICAS,
    SECRETS,
    SETTINGS,
    TUTORIAL,
    TUTORIAL_ENVIRONMENT,
    environment_file,
    services,
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


def test_the_files_follow_the_compose_specification():
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    succeed(*check, COMPOSE, TUTORIAL, *PROJECT.glob("course/*/solution/*compose*.yaml"))


def test_every_variable_stands_in_the_example_with_the_default_of_the_file():
    example = environment_file(EXAMPLE)
    text = COMPOSE.read_text("utf-8") + REPLICAS.read_text("utf-8")
    used = set(re.findall(r"\$\{(\w+)", text))
    # `make up` itself gives the first two beside .env, and reads the others.
    used ^= {"API_KEY_SHA256", "METRICS_KEY_SHA256", "MLOPS_API_KEY", "MLOPS_LOCAL"}
    assert used == set(example)
    for name, default in re.findall(r"\$\{(\w+):-([^${}]+)\}", text):
        assert default == example[name], name


@pytest.mark.parametrize("name", [one for one in SECRETS if one != "MLOPS_API_KEY"])
def test_compose_refuses_to_start_without_a_secret(name):
    with pytest.raises(ValueError, match=f"{name}: run `make up`"):
        services(SETTINGS | {name: ""})


@pytest.mark.parametrize("name", STACK)
def test_a_container_has_the_logins_that_it_needs_and_no_others(name):
    held = str(STACK[name])
    assert {one for one in SECRETS if SETTINGS[one] in held} == ALLOWED[name]


def test_a_service_may_have_a_login_of_its_own_at_the_s3_server():
    for name in ("pipeline", "api", "mlflow"):
        own = {f"{name.upper()}_S3_{kind}": f"own {kind}" for kind in ("USER", "PASSWORD")}
        environment = services(SETTINGS | own)[name]["environment"]
        assert environment["AWS_ACCESS_KEY_ID"] == "own USER"
        assert environment["AWS_SECRET_ACCESS_KEY"] == "own PASSWORD"
        assert SETTINGS["MINIO_ROOT_PASSWORD"] not in str(environment)


def test_the_tutorial_sets_every_secret_which_stands_nowhere_else_for_this_machine_only():
    tutorial = environment_file(TUTORIAL_ENVIRONMENT)
    assert set(SECRETS) <= set(tutorial)
    assert set(tutorial) < set(environment_file(EXAMPLE))
    wanted = [part for name in SECRETS for part in ("-e", tutorial[name])]
    pages = [f":!{folder}" for folder in ("course", "docs", "notebooks")]
    search = ("git", "-C", PROJECT, "grep", "--files-with-matches", "--fixed-strings", *wanted)
    assert succeed(*search, "--", ".", *pages).splitlines() == ["deploy/tutorial.env"]
    for service in services(tutorial, TUTORIAL).values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


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
    assert STACK[name]["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    assert ("healthcheck" in STACK[name]) == (name not in ONE_SHOT)
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
