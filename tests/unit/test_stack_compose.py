"""The Compose files are consistent with the Compose schema, with each other, and with the program."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sceneseek_server.service import ServiceSettings
from tests import compose
from tests.stack import (
    DOCUMENTED,
    EXAMPLE,
    FILES,
    KEYS,
    ONE,
    OURS,
    PROJECTS,
    PUBLISHED,
    ROOT,
    TARGETS,
    THREE,
    command_of,
    known_settings,
    project,
)

# Settings of the services that download weights.
PIP_SETTINGS = {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"}


@pytest.fixture(params=list(PROJECTS.values()), ids=list(PROJECTS))
def project_files(request: pytest.FixtureRequest) -> compose.Project:
    """Each supported combination of the files."""
    return project(*request.param)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_conforms_to_compose_schema(file: Path) -> None:
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema())


def test_merged_files_conform_to_compose_schema(project_files: compose.Project) -> None:
    jsonschema.validate(project_files, schema())


def test_compose_schema_rejects_unknown_key() -> None:
    wrong = project(*ONE)
    wrong["services"]["qdrant"]["helthcheck"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema())


@pytest.mark.skipif(
    subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0
    if shutil.which("docker")
    else True,
    reason="docker compose is not installed",
)
@pytest.mark.parametrize("files", PROJECTS.values(), ids=list(PROJECTS))
def test_docker_compose_agrees_with_test_parser(files: tuple[Path, ...], tmp_path: Path) -> None:
    settings = tmp_path / "env"
    settings.write_text(EXAMPLE + "".join(f"{name}='{value}'\n" for name, value in KEYS.items()))
    named = [part for file in files for part in ("-f", str(file))]
    profiles = [part for name in ("cpu", "gpu", "job", "setup", "monitoring") for part in ("--profile", name)]
    command = ["docker", "compose", "--env-file", str(settings), *named, *profiles, "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    # The output is a Compose file, with dollar signs doubled.
    theirs, ours = json.loads(done.stdout.replace("$$", "$"))["services"], project(*files)["services"]
    assert theirs.keys() == ours.keys()
    for name, service in ours.items():
        for part in ("image", "entrypoint", "command", "environment", "profiles", "read_only", "cap_drop"):
            if part in service:
                assert _plain(theirs[name][part]) == _plain(service[part]), (name, part)
        assert {compose.target(volume) for volume in theirs[name].get("volumes", [])} == {
            compose.target(volume) for volume in service.get("volumes", [])
        }
        assert theirs[name].get("depends_on", {}).keys() == service.get("depends_on", {}).keys()


def test_referenced_services_volumes_networks_and_secrets_exist(project_files: compose.Project) -> None:
    for service in project_files["services"].values():
        assert set(service.get("depends_on", {})) <= set(project_files["services"])
        assert set(service.get("networks", [])) <= set(project_files["networks"])
        assert set(service.get("secrets", [])) <= set(project_files.get("secrets", {}))
        for volume in service.get("volumes", []):
            name = compose.source(volume)
            assert name in project_files["volumes"] or name.startswith((".", "/"))
            if name.startswith("./deploy/"):
                assert (ROOT / name).is_file()


def test_qdrant_services_share_no_volume(project_files: compose.Project) -> None:
    mounted = [
        compose.source(volume)
        for service in project_files["services"].values()
        if str(service["image"]).startswith("qdrant/")
        for volume in service["volumes"]
    ]
    assert len(mounted) == len(set(mounted))


def test_dependency_on_healthy_service_has_health_check(project_files: compose.Project) -> None:
    for service in project_files["services"].values():
        for name, dependency in service.get("depends_on", {}).items():
            if dependency["condition"] == "service_healthy":
                assert "healthcheck" in project_files["services"][name]


def test_required_dependency_has_no_profile(project_files: compose.Project) -> None:
    for service in project_files["services"].values():
        for name, dependency in service.get("depends_on", {}).items():
            assert "profiles" not in project_files["services"][name] or dependency["required"] is False


@pytest.mark.parametrize(
    ("service", "profile"),
    [
        ("server-cpu", "cpu"),
        ("server-gpu", "gpu"),
        ("index-cpu", "job"),
        ("index-gpu", "job"),
        ("export", "setup"),
        ("export-hub", "setup"),
        ("keys", "setup"),
        ("prometheus", "monitoring"),
        ("grafana", "monitoring"),
    ],
)
def test_service_belongs_to_profile(service: str, profile: str) -> None:
    assert project(*ONE)["services"][service]["profiles"] == [profile]


def test_only_proxy_and_monitoring_are_published(project_files: compose.Project) -> None:
    services = project_files["services"]
    assert {name for name, service in services.items() if "ports" in service} - {"qdrant"} == {
        "proxy",
        "prometheus",
        "grafana",
    }
    assert services["proxy"]["profiles"] == ["cpu", "gpu"]
    for name in ("server-cpu", "server-gpu"):
        assert services[name]["networks"]["back"] == {"aliases": ["sceneseek"]}
        assert services[name]["environment"]["SCENESEEK_TRUSTED_PROXIES"] == "1"
    assert project_files["networks"]["back"] == {"internal": True}
    assert services["proxy"]["environment"]["PROXY_SERVER"] == "sceneseek:8080"


def test_certificates_setting_enables_tls_in_proxy() -> None:
    for certificates, listen in (("", "8080"), ("/etc/letsencrypt/live/photos", "8080 ssl")):
        proxy = project(*ONE, SCENESEEK_CERTIFICATES=certificates)["services"]["proxy"]
        assert proxy["environment"]["PROXY_LISTEN"] == listen
        assert f"{certificates or './deploy'}:/etc/nginx/tls:ro" in proxy["volumes"]


def test_images_are_pinned_by_tag(project_files: compose.Project) -> None:
    for service in project_files["services"].values():
        name, _, tag = service["image"].rpartition(":")
        assert name
        assert tag != "latest"


@pytest.mark.parametrize("name", OURS)
def test_own_services_drop_privileges(name: str) -> None:
    service = project(*ONE)["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("read_only", False) == (name != "export-hub")
    assert "privileged" not in service
    assert "user" not in service, "the image sets the user"


@pytest.mark.parametrize("name", ["server-cpu", "server-gpu", "index-cpu", "index-gpu"])
def test_images_and_bundles_are_mounted_read_only(name: str) -> None:
    mounted = {compose.target(volume): volume for volume in project(*ONE)["services"][name]["volumes"]}
    assert mounted["/images"]["read_only"] is True
    assert mounted["/bundles"]["read_only"] is True
    assert mounted["/images"]["bind"] == {"create_host_path": False}, "a mistyped folder is an error"


def test_ports_are_published_on_loopback_only(project_files: compose.Project) -> None:
    for name, service in project_files["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_qdrant_is_published_only_on_request_without_peer_port() -> None:
    for files in (ONE, THREE):
        for service in project(*files)["services"].values():
            if service["image"].startswith("qdrant/"):
                assert "ports" not in service
                assert service["networks"] == ["store"]
    assert project(*THREE)["networks"]["store"] == {"internal": True}
    assert all(":6335" not in port for port in project(*PUBLISHED)["services"]["qdrant"]["ports"])


@pytest.mark.parametrize("key", KEYS)
def test_missing_key_stops_compose(key: str) -> None:
    with pytest.raises(compose.MissingVariable, match=r"\.env"):
        project(*ONE, **{key: ""})


def test_server_has_read_only_qdrant_key_and_indexer_write_key(project_files: compose.Project) -> None:
    for name, service in project_files["services"].items():
        environment = service.get("environment", {})
        if service["image"].startswith("qdrant/"):
            assert environment["QDRANT__SERVICE__API_KEY"] == "writes"
            assert environment["QDRANT__SERVICE__READ_ONLY_API_KEY"] == "reads"
        elif name.startswith(("server-", "index-")):
            assert environment["SCENESEEK_QDRANT_API_KEY"] == ("reads" if name.startswith("server-") else "writes")
        else:
            assert not {"writes", "reads"} & set(map(str, environment.values())), name
    assert project_files["secrets"] == {
        "qdrant_read_only_api_key": {"environment": "SCENESEEK_QDRANT_READ_ONLY_API_KEY"}
    }


def test_qdrant_raises_file_limit_to_hard_limit(tmp_path: Path) -> None:
    service = project(*ONE)["services"]["qdrant"]
    assert "ulimits" not in service
    program = tmp_path / "entrypoint.sh"
    program.write_text('#!/bin/sh\nulimit -Sn; echo "$@"\n')
    program.chmod(0o755)
    command = shlex.join([*service["entrypoint"], *service["command"], "--uri", "a b"])
    limited = f"ulimit -Sn 64 && ulimit -Hn 96 && exec {command}"
    done = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "96\n--uri a b\n"


def test_stop_grace_period_exceeds_server_grace() -> None:
    for name in ("server-cpu", "server-gpu"):
        grace = project(*ONE)["services"][name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) > ServiceSettings(Path(), "").grace


def test_example_contains_exactly_the_used_variables() -> None:
    used = {name for file in FILES for name in compose.variables(file.read_text(encoding="utf-8"))}
    assert used == DOCUMENTED


def test_defaults_in_compose_files_match_example() -> None:
    defaults = {name: value for name, value in compose.settings(EXAMPLE).items() if value}
    in_files = set(re.findall(r"\$\{(\w+):-([^}]+)\}", ONE[0].read_text(encoding="utf-8")))
    # Without certificates an existing folder is mounted.
    assert dict(in_files - {("SCENESEEK_CERTIFICATES", "./deploy")}) == defaults


def test_shell_and_compose_read_settings_identically(tmp_path: Path) -> None:
    every = re.sub(r"^#([A-Z][A-Z0-9_]+=)", r"\1", EXAMPLE, flags=re.MULTILINE)
    (tmp_path / ".env").write_text(every + "SCENESEEK_QDRANT_PREFIX='a $HOME \"b\" \\c # d'\n")
    command = ["sh", "-euc", "set -a; . ./.env; exec env -0"]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    in_shell = dict(
        line.split("=", 1) for line in done.stdout.split("\0") if line.startswith(("SCENESEEK_", "QDRANT_"))
    )
    in_compose = compose.settings((tmp_path / ".env").read_text())
    assert in_shell == {name: value for name, value in in_compose.items() if name in in_shell}
    assert "localhost server-cpu server-gpu" in in_shell.values()
    assert len(in_shell) > 20


def test_example_values_are_quoted() -> None:
    set_or_not = re.findall(r"^#?[A-Z][A-Z0-9_]+=(.*)$", EXAMPLE, re.MULTILINE)
    assert [value for value in set_or_not if not re.fullmatch(r"'[^']*'", value)] == []


def test_containers_get_only_known_settings(project_files: compose.Project) -> None:
    for name in OURS:
        environment = set(project_files["services"][name].get("environment", {}))
        assert environment <= known_settings() | PIP_SETTINGS


@pytest.mark.parametrize("name", OURS)
def test_build_target_matches_image_name(name: str) -> None:
    service = project(*ONE)["services"][name]
    assert service["build"]["target"] in TARGETS
    assert service["image"].endswith(service["build"]["target"].removeprefix("runtime"))


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_server_and_indexer_share_image_and_settings(kind: str) -> None:
    services = project(*THREE)["services"]
    server, index = services[f"server-{kind}"], services[f"index-{kind}"]
    assert server["image"] == index["image"]
    of_the_service = server["environment"].keys() - index["environment"].keys()
    shared = index["environment"].keys() - {"SCENESEEK_QDRANT_API_KEY"}
    assert {name: index["environment"][name] for name in shared}.items() <= server["environment"].items()
    assert of_the_service <= {p.envvar for p in command_of("serve").params} - {
        p.envvar for p in command_of("index").params
    }


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_server_mounts_key_file_of_keys_service(kind: str) -> None:
    services = project(*ONE)["services"]
    server, keys = services[f"server-{kind}"], services["keys"]
    assert f"The key file: {keys['environment']['SCENESEEK_API_KEYS']}," in EXAMPLE
    mounted = {compose.target(volume): volume for volume in server["volumes"]}
    assert mounted["/keys"]["source"] == compose.source(keys["volumes"][0])
    assert mounted["/keys"]["read_only"] is True
    assert compose.target(keys["volumes"][0]) == "/keys", (
        "the directory: a file that is replaced is not seen in a mount of it"
    )


def test_only_export_services_have_outbound_network(project_files: compose.Project) -> None:
    outside = {name for name in OURS if "front" in project_files["services"][name].get("networks", [])}
    assert outside == {"export", "export-hub"}


def test_downloaded_weights_are_cached_in_a_volume() -> None:
    for name in ("export", "export-hub"):
        mounted = {compose.target(volume): volume for volume in project(*ONE)["services"][name]["volumes"]}
        assert set(mounted) == {"/bundles", "/cache"}, "no pictures, so that a bundle can be backed up without them"


def test_keys_service_has_no_network() -> None:
    assert project(*ONE)["services"]["keys"]["network_mode"] == "none"


def test_gpu_services_require_cuda_device() -> None:
    services = project(*ONE)["services"]
    for name in ("server-gpu", "index-gpu"):
        assert services[name]["environment"]["SCENESEEK_DEVICE"] == "cuda"
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def schema() -> Any:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    vendored = resources.files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json"
    return json.loads(vendored.read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    """Normalise a value as Compose does: drop unset values, and convert numbers to text."""
    if isinstance(value, dict):
        return {name: str(part) for name, part in value.items() if part is not None}
    return value
