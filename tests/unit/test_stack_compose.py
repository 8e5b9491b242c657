"""The Compose files against the specification's schema, against each other, and against the program."""

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

# Of the program that fetches weights.
PIP_SETTINGS = {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"}


@pytest.fixture(params=list(PROJECTS.values()), ids=list(PROJECTS))
def whole(request: pytest.FixtureRequest) -> compose.Project:
    """Each way in which the files go together."""
    return project(*request.param)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_valid_by_the_schema_of_compose(file: Path) -> None:
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema())


def test_files_together_are_valid_by_the_schema_of_compose(whole: compose.Project) -> None:
    jsonschema.validate(whole, schema())


def test_the_schema_would_find_a_mistake() -> None:
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
def test_docker_compose_reads_the_same(files: tuple[Path, ...], tmp_path: Path) -> None:
    settings = tmp_path / "env"
    settings.write_text(EXAMPLE + "".join(f"{name}='{value}'\n" for name, value in KEYS.items()))
    named = [part for file in files for part in ("-f", str(file))]
    profiles = [part for name in ("cpu", "gpu", "job", "setup", "monitoring") for part in ("--profile", name)]
    command = ["docker", "compose", "--env-file", str(settings), *named, *profiles, "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    # What it prints is a Compose file again, with its dollars doubled.
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


def test_every_service_volume_network_and_secret_that_is_named_exists(whole: compose.Project) -> None:
    for service in whole["services"].values():
        assert set(service.get("depends_on", {})) <= set(whole["services"])
        assert set(service.get("networks", [])) <= set(whole["networks"])
        assert set(service.get("secrets", [])) <= set(whole.get("secrets", {}))
        for volume in service.get("volumes", []):
            name = compose.source(volume)
            assert name in whole["volumes"] or name.startswith((".", "/"))
            if name.startswith("./deploy/"):
                assert (ROOT / name).is_file()


def test_no_two_services_write_into_one_volume_of_qdrant(whole: compose.Project) -> None:
    mounted = [
        compose.source(volume)
        for service in whole["services"].values()
        if str(service["image"]).startswith("qdrant/")
        for volume in service["volumes"]
    ]
    assert len(mounted) == len(set(mounted))


def test_what_is_waited_for_as_healthy_has_a_health_check(whole: compose.Project) -> None:
    for service in whole["services"].values():
        for name, dependency in service.get("depends_on", {}).items():
            if dependency["condition"] == "service_healthy":
                assert "healthcheck" in whole["services"][name]


def test_what_is_waited_for_has_no_profile_that_could_be_off(whole: compose.Project) -> None:
    for service in whole["services"].values():
        for name, dependency in service.get("depends_on", {}).items():
            assert "profiles" not in whole["services"][name] or dependency["required"] is False


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
def test_a_service_belongs_to_its_profile(service: str, profile: str) -> None:
    assert project(*ONE)["services"][service]["profiles"] == [profile]


def test_only_the_proxy_is_published_with_whatever_serves_behind_it(whole: compose.Project) -> None:
    services = whole["services"]
    assert {name for name, service in services.items() if "ports" in service} - {"qdrant"} == {
        "proxy",
        "prometheus",
        "grafana",
    }
    assert services["proxy"]["profiles"] == ["cpu", "gpu"]
    for name in ("server-cpu", "server-gpu"):
        assert services[name]["networks"]["back"] == {"aliases": ["sceneseek"]}
        assert services[name]["environment"]["SCENESEEK_TRUSTED_PROXIES"] == "1"
    assert whole["networks"]["back"] == {"internal": True}
    assert services["proxy"]["environment"]["PROXY_SERVER"] == "sceneseek:8080"


def test_one_setting_has_the_proxy_speak_tls() -> None:
    for certificates, listen in (("", "8080"), ("/etc/letsencrypt/live/photos", "8080 ssl")):
        proxy = project(*ONE, SCENESEEK_CERTIFICATES=certificates)["services"]["proxy"]
        assert proxy["environment"]["PROXY_LISTEN"] == listen
        assert f"{certificates or './deploy'}:/etc/nginx/tls:ro" in proxy["volumes"]


def test_images_are_pinned_by_tag(whole: compose.Project) -> None:
    for service in whole["services"].values():
        name, _, tag = service["image"].rpartition(":")
        assert name
        assert tag != "latest"


@pytest.mark.parametrize("name", OURS)
def test_what_is_ours_has_no_privileges(name: str) -> None:
    service = project(*ONE)["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("read_only", False) == (name != "export-hub")
    assert "privileged" not in service
    assert "user" not in service, "the image's own"


@pytest.mark.parametrize("name", ["server-cpu", "server-gpu", "index-cpu", "index-gpu"])
def test_pictures_and_bundle_are_read_only_to_service_and_indexer(name: str) -> None:
    mounted = {compose.target(volume): volume for volume in project(*ONE)["services"][name]["volumes"]}
    assert mounted["/images"]["read_only"] is True
    assert mounted["/bundles"]["read_only"] is True
    assert mounted["/images"]["bind"] == {"create_host_path": False}, "a mistyped folder is an error"


def test_ports_are_published_on_this_machines_own_address_only(whole: compose.Project) -> None:
    for name, service in whole["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_qdrant_is_published_only_on_request_and_its_peers_port_never() -> None:
    for files in (ONE, THREE):
        for service in project(*files)["services"].values():
            if service["image"].startswith("qdrant/"):
                assert "ports" not in service
                assert service["networks"] == ["store"]
    assert project(*THREE)["networks"]["store"] == {"internal": True}
    assert all(":6335" not in port for port in project(*PUBLISHED)["services"]["qdrant"]["ports"])


@pytest.mark.parametrize("key", KEYS)
def test_without_a_key_nothing_starts(key: str) -> None:
    with pytest.raises(compose.MissingVariable, match=r"\.env"):
        project(*ONE, **{key: ""})


def test_the_service_may_only_read_qdrant_and_the_indexer_may_write(whole: compose.Project) -> None:
    for name, service in whole["services"].items():
        given = service.get("environment", {})
        if service["image"].startswith("qdrant/"):
            assert given["QDRANT__SERVICE__API_KEY"] == "writes"
            assert given["QDRANT__SERVICE__READ_ONLY_API_KEY"] == "reads"
        elif name.startswith(("server-", "index-")):
            assert given["SCENESEEK_QDRANT_API_KEY"] == ("reads" if name.startswith("server-") else "writes")
        else:
            assert not {"writes", "reads"} & set(map(str, given.values())), name
    assert whole["secrets"] == {"qdrant_read_only_api_key": {"environment": "SCENESEEK_QDRANT_READ_ONLY_API_KEY"}}


def test_qdrant_starts_under_whatever_limit_of_files_the_daemon_has_and_takes_all_of_it(tmp_path: Path) -> None:
    service = project(*ONE)["services"]["qdrant"]
    assert "ulimits" not in service
    program = tmp_path / "entrypoint.sh"
    program.write_text('#!/bin/sh\nulimit -Sn; echo "$@"\n')
    program.chmod(0o755)
    command = shlex.join([*service["entrypoint"], *service["command"], "--uri", "a b"])
    limited = f"ulimit -Sn 64 && ulimit -Hn 96 && exec {command}"
    done = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "96\n--uri a b\n"


def test_a_stop_lets_requests_in_flight_end() -> None:
    for name in ("server-cpu", "server-gpu"):
        grace = project(*ONE)["services"][name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) > ServiceSettings(Path(), "").grace


def test_every_variable_is_in_the_example_and_nothing_else_is() -> None:
    asked = {name for file in FILES for name in compose.variables(file.read_text(encoding="utf-8"))}
    assert asked == DOCUMENTED


def test_defaults_in_the_files_are_those_of_the_example() -> None:
    defaults = {name: value for name, value in compose.settings(EXAMPLE).items() if value}
    in_files = set(re.findall(r"\$\{(\w+):-([^}]+)\}", ONE[0].read_text(encoding="utf-8")))
    # Where there are no certificates a folder is mounted that is there anyway.
    assert dict(in_files - {("SCENESEEK_CERTIFICATES", "./deploy")}) == defaults


def test_a_shell_reads_the_settings_as_compose_does(tmp_path: Path) -> None:
    every = re.sub(r"^#([A-Z][A-Z0-9_]+=)", r"\1", EXAMPLE, flags=re.MULTILINE)
    (tmp_path / ".env").write_text(every + "SCENESEEK_QDRANT_PREFIX='a $HOME \"b\" \\c # d'\n")
    asked = ["sh", "-euc", "set -a; . ./.env; exec env -0"]
    done = subprocess.run(asked, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    in_shell = dict(
        line.split("=", 1) for line in done.stdout.split("\0") if line.startswith(("SCENESEEK_", "QDRANT_"))
    )
    in_compose = compose.settings((tmp_path / ".env").read_text())
    assert in_shell == {name: value for name, value in in_compose.items() if name in in_shell}
    assert "localhost server-cpu server-gpu" in in_shell.values()
    assert len(in_shell) > 20


def test_every_value_of_the_example_is_quoted() -> None:
    set_or_not = re.findall(r"^#?[A-Z][A-Z0-9_]+=(.*)$", EXAMPLE, re.MULTILINE)
    assert [value for value in set_or_not if not re.fullmatch(r"'[^']*'", value)] == []


def test_a_container_is_given_only_settings_that_the_program_knows(whole: compose.Project) -> None:
    for name in OURS:
        given = set(whole["services"][name].get("environment", {}))
        assert given <= known_settings() | PIP_SETTINGS


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_built_from_the_target_that_its_image_is_named_after(name: str) -> None:
    service = project(*ONE)["services"][name]
    assert service["build"]["target"] in TARGETS
    assert service["image"].endswith(service["build"]["target"].removeprefix("runtime"))


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_service_and_indexer_are_one_image_with_the_same_settings(kind: str) -> None:
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
def test_the_service_reads_the_keys_that_the_command_for_them_writes(kind: str) -> None:
    services = project(*ONE)["services"]
    server, keys = services[f"server-{kind}"], services["keys"]
    assert f"The file of keys: {keys['environment']['SCENESEEK_API_KEYS']}," in EXAMPLE
    mounted = {compose.target(volume): volume for volume in server["volumes"]}
    assert mounted["/keys"]["source"] == compose.source(keys["volumes"][0])
    assert mounted["/keys"]["read_only"] is True
    assert compose.target(keys["volumes"][0]) == "/keys", (
        "the directory: a file that is replaced is not seen in a mount of it"
    )


def test_only_what_fetches_weights_reaches_the_world_without_being_published(whole: compose.Project) -> None:
    outside = {name for name in OURS if "front" in whole["services"][name].get("networks", [])}
    assert outside == {"export", "export-hub"}


def test_weights_are_cached_in_a_volume() -> None:
    for name in ("export", "export-hub"):
        mounted = {compose.target(volume): volume for volume in project(*ONE)["services"][name]["volumes"]}
        assert set(mounted) == {"/bundles", "/cache"}, "no pictures, so that a bundle can be backed up without them"


def test_what_makes_keys_is_on_no_network() -> None:
    assert project(*ONE)["services"]["keys"]["network_mode"] == "none"


def test_on_a_gpu_the_processor_is_never_taken_in_silence() -> None:
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
    """Without what Compose adds or leaves out for nothing: values that are not set, numbers as text."""
    if isinstance(value, dict):
        return {name: str(part) for name, part in value.items() if part is not None}
    return value
