import json
import re
from shutil import which

import pytest
import yaml

from mlops_for_mle.serving.settings import ServingSettings
from tests import PROJECT
from tests.expectations import succeed
from tests.serving.conftest import Client
from tests.stack.compose_file import SETTINGS, services

STACK = services(SETTINGS)
PROMETHEUS = PROJECT / "deploy/prometheus"
GRAFANA = PROJECT / "deploy/grafana"
RULES = [
    group
    for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
]
DASHBOARD = json.loads((GRAFANA / "dashboards/serving.json").read_text("utf-8"))
RECORDED = {rule["record"] for group in RULES for rule in group["rules"] if "record" in rule}


def test_rules_and_dashboard_ask_only_for_metrics_that_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_PROJECT_PATH", str(tmp_path))
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    expressions += [rule["expr"] for group in RULES for rule in group["rules"]]
    asked = set(re.findall(r"\bmlops(?::\w+)+|\bmlops_\w+", " ".join(expressions)))
    # Before its first request.
    text = Client(ServingSettings()).get("/metrics").text
    exposed = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))

    unknown = {
        name
        for name in asked - RECORDED
        if exposed.isdisjoint((name, re.sub(r"_(bucket|sum|count|total)$", "", name)))
    }

    assert {"mlops_request_duration_seconds_count", "mlops_model_info"} <= asked
    # Those of a monitoring run are compared in tests/serving/test_monitoring.py.
    assert {one for one in unknown if not one.startswith("mlops_monitoring_")} == set()


@pytest.mark.skipif(which("promtool") is None, reason="it comes with Prometheus")
@pytest.mark.parametrize("name", ["monitoring", "serving"])
def test_prometheus_fires_the_alerts_when_it_should(name):
    succeed("promtool", "test", "rules", PROMETHEUS / f"tests/{name}_test.yml")


def test_prometheus_asks_services_of_the_stack_at_their_ports():
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    api, *others = configuration["scrape_configs"]
    (replicas,) = api["dns_sd_configs"]
    asked = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in others}
    assert asked.pop("prometheus") == "localhost:9090"
    asked["api"] = f"{replicas['names'][0]}:{replicas['port']}"
    for name, address in asked.items():
        port = STACK[name]["ports"][0].rpartition(":")[2]
        assert address == f"{name}:{port}"
    assert configuration["rule_files"] == ["/etc/prometheus/rules/*.yml"]
    assert "./deploy/prometheus:/etc/prometheus:ro" in STACK["prometheus"]["volumes"]
