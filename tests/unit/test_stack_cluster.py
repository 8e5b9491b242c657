"""The configuration files of three Qdrant nodes behind a load balancer are consistent."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import compose
from tests.stack import ONE, ROOT, THREE, project

NODES = ("qdrant", "qdrant-2", "qdrant-3")


def test_every_node_is_in_cluster_mode_and_knows_its_own_address() -> None:
    services = project(*THREE)["services"]
    for name in NODES:
        assert services[name]["environment"]["QDRANT__CLUSTER__ENABLED"] == "true"
        assert services[name]["environment"]["QDRANT__SERVICE__API_KEY"] == "writes"
        assert services[name]["entrypoint"] == services["qdrant"]["entrypoint"]
        command = services[name]["command"]
        assert command[0] == "./entrypoint.sh"
        assert command[command.index("--uri") + 1] == f"http://{name}:6335"
        assert services[name]["healthcheck"] == services["qdrant"]["healthcheck"]


def test_other_nodes_join_the_first() -> None:
    services = project(*THREE)["services"]
    assert "--bootstrap" not in services["qdrant"]["command"]
    for name in NODES[1:]:
        assert services[name]["command"][1:3] == ["--bootstrap", "http://qdrant:6335"]
        assert services[name]["depends_on"] == {"qdrant": {"condition": "service_started"}}


def test_single_node_and_cluster_use_different_volumes() -> None:
    def storage(files: tuple[Path, ...]) -> set[str]:
        return {compose.source(volume) for volume in project(*files)["services"]["qdrant"]["volumes"]}

    assert not storage(ONE) & storage(THREE)


def test_service_and_indexer_use_the_balancer() -> None:
    for name in ("server-cpu", "server-gpu", "index-cpu", "index-gpu"):
        service = project(*THREE)["services"][name]
        assert service["environment"]["SCENESEEK_INDEX"] == "http://balancer:6333"
        assert service["depends_on"]["balancer"] == {"condition": "service_healthy"}
        assert service["depends_on"]["qdrant"] == {"condition": "service_started"}, "one node may be away"


def test_shards_and_replicas_fit_the_number_of_nodes() -> None:
    environment = project(*THREE)["services"]["index-cpu"]["environment"]
    assert int(environment["SCENESEEK_QDRANT_SHARDS"]) % len(NODES) == 0
    assert 2 <= int(environment["SCENESEEK_QDRANT_REPLICAS"]) <= len(NODES)
    assert int(environment["SCENESEEK_QDRANT_WRITE_CONSISTENCY"]) <= int(environment["SCENESEEK_QDRANT_REPLICAS"])


def test_balancer_lists_every_node_on_both_ports() -> None:
    text = (ROOT / "deploy" / "haproxy.cfg").read_text(encoding="utf-8")
    for port in ("6333", "6334"):
        assert re.findall(rf"server \S+ (\S+):{port}\b", text) == list(NODES)
        assert re.search(rf"bind :{port}\b", text)


def test_prometheus_scrapes_every_node() -> None:
    text = (ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8")
    (job,) = (job for job in yaml.safe_load(text)["scrape_configs"] if job["job_name"] == "qdrant")
    assert job["dns_sd_configs"][0]["names"] == list(NODES)
    assert job["authorization"]["credentials_file"] == "/run/secrets/qdrant_read_only_api_key"


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
def test_haproxy_accepts_its_configuration() -> None:
    subprocess.run(["haproxy", "-c", "-f", str(ROOT / "deploy" / "haproxy.cfg")], check=True, capture_output=True)
