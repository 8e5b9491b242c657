"""The manifests in deploy/kubernetes: schema-valid, hardened, and consistent with docker-compose.yml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.compose import variables
from tests.conftest import ROOT

FOLDER = ROOT / "deploy/kubernetes"
JOBS = {"export.yaml", "index.yaml"}
RAY = "raycluster.yaml"
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
Document = dict[str, Any]

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="kubernetes-validate is not installed (the extra dev has it)"
)


def documents(name: str = "*.yaml") -> Iterator[tuple[str, Document]]:
    for file in sorted(FOLDER.glob(name)):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            yield file.name, document


def pods() -> Iterator[tuple[str, Document]]:
    """Yield file name and pod spec of each workload."""
    for name, template in templates():
        yield name, template["spec"]


def templates() -> Iterator[tuple[str, Document]]:
    for name, document in documents():
        spec = document.get("spec", {})
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]] if document["kind"] == "RayCluster" else [spec]
        yield from ((name, group["template"]) for group in groups if "template" in group)


def containers() -> Iterator[tuple[str, Document]]:
    for name, pod in pods():
        for container in pod["containers"]:
            yield name, container


MANIFESTS = [
    pytest.param(document, id=f"{name}-{document['kind']}")
    for name, document in documents()
    if document["kind"] not in ("Kustomization", "RayCluster")
]
MANIFESTS += [
    pytest.param({"apiVersion": "v1", "kind": "Pod", "metadata": {}, **template}, id=f"{name}-pod")
    for name, template in templates()
]


@pytest.mark.parametrize("document", MANIFESTS)
def test_manifests_match_kubernetes_schemas(document: Document) -> None:
    with_name = {**document, "metadata": {"name": "generated", **document["metadata"]}}
    kubernetes_validate.validate(with_name, kubernetes_validate.latest_version(), strict=True)


def test_kustomization_lists_all_manifests_except_jobs() -> None:
    ((_, kustomization),) = documents("kustomization.yaml")
    assert {*kustomization["resources"]} == {f.name for f in FOLDER.glob("*.yaml")} - {"kustomization.yaml", RAY, *JOBS}


def test_pods_meet_restricted_security_standard() -> None:
    for name, pod in pods():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
    for name, container in containers():
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]}), name
        # Qdrant writes next to its binary.
        assert context.get("readOnlyRootFilesystem") is True or name == "qdrant.yaml", name


def test_containers_have_resource_limits_and_services_have_probes() -> None:
    for name, container in containers():
        assert "memory" in container["resources"]["limits"], name
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
        probes = {"startupProbe", "readinessProbe", "livenessProbe"}
        # The operator adds probes to Ray nodes.
        assert probes.issubset(container) == (name not in {*JOBS, RAY}), name


def test_secrets_are_referenced_not_included() -> None:
    assert not [name for name, document in documents() if document["kind"] == "Secret"]
    for name, container in containers():
        for variable in container.get("env", []):
            assert ("KEY" in variable["name"]) == ("secretKeyRef" in variable.get("valueFrom", {})), name


def test_service_has_read_only_access_and_indexer_can_write() -> None:
    keys = {
        name: container["env"][0]["valueFrom"]["secretKeyRef"]["key"]
        for name, container in containers()
        if name in ("service.yaml", "index.yaml")
    }
    assert keys == {"service.yaml": "read-only-api-key", "index.yaml": "api-key"}
    for name, container in containers():
        for mount in container["volumeMounts"]:
            if mount["mountPath"] in ("/images", "/keys") or (mount["mountPath"] == "/bundles" and name not in JOBS):
                assert mount["readOnly"] is True, name


def test_container_images_match_compose_file() -> None:
    images = {container["image"] for _, container in containers()}
    assert images == {"sceneseek:0.1.0-cpu", "sceneseek:0.1.0-export", "qdrant/qdrant:v1.19.0-unprivileged"}
    assert "image: qdrant/qdrant:v1.19.0-unprivileged" in COMPOSE
    assert "${SCENESEEK_TAG:-0.1.0}-cpu" in COMPOSE


def test_settings_match_compose_file() -> None:
    (settings,) = (document["data"] for _, document in documents() if document["kind"] == "ConfigMap")
    assert settings.keys() <= variables(COMPOSE) | {"SCENESEEK_BUNDLE", "SCENESEEK_INDEX", "SCENESEEK_METRICS_PORT"}


def test_mounted_volumes_and_selected_labels_exist() -> None:
    claims = {document["metadata"]["name"] for _, document in documents("storage.yaml")}
    for name, pod in pods():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "bundles") in claims, name
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= volumes.keys() | {"data"}, name
    labels = [template["metadata"]["labels"] for _, template in templates()]
    for name, document in documents():
        spec = document.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        selected_labels = selector.get("matchLabels", selector)
        if selected_labels:
            assert any(selected_labels.items() <= pod_labels.items() for pod_labels in labels), (name, selected_labels)
