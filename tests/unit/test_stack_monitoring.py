"""The configuration of Prometheus and Grafana is consistent with the rest of the stack."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests import compose
from tests.stack import EXAMPLE, ONE, ROOT, THREE, project

DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "reference" / "observability.md").read_text(encoding="utf-8")


def read(name: str) -> Any:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


@pytest.fixture
def services() -> Any:
    return project(*ONE)["services"]


def test_prometheus_scrapes_the_metrics_port_on_a_shared_network(services: Any) -> None:
    (job,) = (job for job in read("prometheus.yml")["scrape_configs"] if job["job_name"] == "sceneseek")
    (target,) = job["dns_sd_configs"]
    assert target["names"] == ["server-cpu", "server-gpu"]
    for name in target["names"]:
        port = str(target["port"])
        assert services[name]["environment"]["SCENESEEK_METRICS_PORT"] == port
        assert port in services[name]["expose"]
        assert "ports" not in services[name]
        assert set(services[name]["networks"]) & set(services["prometheus"]["networks"])


def test_prometheus_rule_files_are_mounted(services: Any) -> None:
    mounted = {compose.target(volume): compose.source(volume) for volume in services["prometheus"]["volumes"]}
    (rules,) = read("prometheus.yml")["rule_files"]
    assert mounted[f"/etc/prometheus/{rules}"] == f"./deploy/{rules}"
    for group in read(rules)["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"]["summary"]


def test_alerts_and_dashboard_use_scraped_jobs() -> None:
    jobs = {job["job_name"] for job in read("prometheus.yml")["scrape_configs"]}
    asked = set(re.findall(r'job="(\w+)"', (DEPLOY / "alerts.yml").read_text(encoding="utf-8")))
    asked |= set(re.findall(r'job=\\"(\w+)\\"', (DEPLOY / "grafana" / "sceneseek.json").read_text(encoding="utf-8")))
    assert asked == jobs


def test_prometheus_uses_the_read_only_qdrant_key(services: Any) -> None:
    (job,) = (job for job in read("prometheus.yml")["scrape_configs"] if job["job_name"] == "qdrant")
    (secret,) = services["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert project(*ONE)["secrets"][secret]["environment"] == "SCENESEEK_QDRANT_READ_ONLY_API_KEY"


def test_qdrant_metrics_are_documented_alerted_and_displayed() -> None:
    section = PAGE.partition("\n## Qdrant\n")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))
    assert len(documented) == 7
    rules = [rule["expr"] for group in read("alerts.yml")["groups"] for rule in group["rules"]]
    shown = [
        target["expr"] for panel in read("grafana/sceneseek.json")["panels"] for target in panel.get("targets", [])
    ]
    for queries in (rules, shown):
        asked = {name for query in queries for name in re.findall(r'(\w+)\{job="qdrant"', query)}
        assert asked - {"up"} == documented


def test_memory_alert_matches_the_memory_limit() -> None:
    (rule,) = (r for g in read("alerts.yml")["groups"] for r in g["rules"] if r["alert"] == "QdrantMemory")
    limit = compose.settings(EXAMPLE)["QDRANT_MEMORY"]
    assert f"0.9 * {limit.removesuffix('g')} * 2^30" in rule["expr"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (apt-get install prometheus)")
def test_alert_rules_pass_promtool() -> None:
    for arguments in (("check", "rules", "deploy/alerts.yml"), ("test", "rules", "tests/alerts.yml")):
        done = subprocess.run(["promtool", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_qdrant_alert_has_a_test_case() -> None:
    cases = yaml.safe_load((ROOT / "tests" / "alerts.yml").read_text(encoding="utf-8"))["tests"]
    tried = {rule["alertname"] for case in cases for rule in case["alert_rule_test"] if "exp_alerts" in rule}
    (group,) = (group for group in read("alerts.yml")["groups"] if group["name"] == "qdrant")
    assert {rule["alert"] for rule in group["rules"]} <= tried


def test_grafana_provisions_the_datasource_and_dashboard(services: Any) -> None:
    grafana = services["grafana"]
    mounted = {compose.target(volume): compose.source(volume) for volume in grafana["volumes"]}
    (source,) = read("grafana/datasource.yml")["datasources"]
    assert mounted["/etc/grafana/provisioning/datasources/sceneseek.yml"] == "./deploy/grafana/datasource.yml"
    assert source["url"] == "http://prometheus:9090"
    assert set(grafana["networks"]) & set(services["prometheus"]["networks"])
    (provider,) = read("grafana/dashboards.yml")["providers"]
    assert mounted["/etc/grafana/provisioning/dashboards/sceneseek.yml"] == "./deploy/grafana/dashboards.yml"
    dashboard = f"{provider['options']['path']}/sceneseek.json"
    assert mounted[dashboard] == "./deploy/grafana/sceneseek.json"
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard


def test_grafana_has_no_password_login(services: Any) -> None:
    environment = services["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert "GF_AUTH_ANONYMOUS_ORG_ROLE" not in environment, "anonymous users keep the default role, viewer"


def test_dashboard_panels_have_unique_ids_and_positions_and_queries() -> None:
    panels = read("grafana/sceneseek.json")["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["type"] == "row" or all(target["expr"] for target in panel["targets"])


def test_monitoring_has_no_dependencies_in_any_project() -> None:
    for files in (ONE, THREE):
        for name in ("prometheus", "grafana"):
            service = project(*files)["services"][name]
            assert "depends_on" not in service
            assert service["cap_drop"] == ["ALL"]
