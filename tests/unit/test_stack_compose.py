"""The Compose files against the specification's schema, against each other, and against the program."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from server.process import Service
from tests import compose
from tests.stack import (
    DOCUMENTED,
    EXAMPLE,
    FILES,
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
    settings.write_text(EXAMPLE.replace("API_KEY=", "API_KEY=key"))
    named = [part for file in files for part in ("-f", str(file))]
    profiles = [part for name in ("cpu", "gpu", "job", "setup", "monitoring") for part in ("--profile", name)]
    command = ["docker", "compose", "--env-file", str(settings), *named, *profiles, "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    theirs, ours = json.loads(done.stdout)["services"], project(*files)["services"]
    assert theirs.keys() == ours.keys()
    for name, service in ours.items():
        for part in ("image", "command", "environment", "profiles", "read_only", "cap_drop"):
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
        for name in service.get("depends_on", {}):
            assert "profiles" not in whole["services"][name]


@pytest.mark.parametrize(
    ("service", "profile"),
    [
        ("server-cpu", "cpu"),
        ("server-gpu", "gpu"),
        ("index-cpu", "job"),
        ("index-gpu", "job"),
        ("export", "setup"),
        ("prometheus", "monitoring"),
    ],
)
def test_a_service_belongs_to_its_profile(service: str, profile: str) -> None:
    assert project(*ONE)["services"][service]["profiles"] == [profile]


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
    assert service.get("read_only", False) == (name != "export")
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


def test_without_a_key_nothing_starts() -> None:
    with pytest.raises(compose.MissingVariable, match=r"\.env"):
        project(*ONE, SCENESEEK_QDRANT_API_KEY="")


def test_a_stop_lets_requests_in_flight_end() -> None:
    for name in ("server-cpu", "server-gpu"):
        grace = project(*ONE)["services"][name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) > Service(Path(), "").grace


def test_every_variable_is_in_the_example_and_nothing_else_is() -> None:
    asked = {name for file in FILES for name in compose.variables(file.read_text(encoding="utf-8"))}
    assert asked == DOCUMENTED


def test_defaults_in_the_files_are_those_of_the_example() -> None:
    defaults = dict(re.findall(r"^([A-Z][A-Z0-9_]+)=(.+)$", EXAMPLE, re.MULTILINE))
    in_files = set(re.findall(r"\$\{(\w+):-([^}]*)\}", ONE[0].read_text(encoding="utf-8")))
    assert dict(in_files) == defaults


def test_a_container_is_given_only_settings_that_the_program_knows(whole: compose.Project) -> None:
    for name in OURS:
        given = set(whole["services"][name].get("environment", {}))
        assert given <= known_settings()


@pytest.mark.parametrize("name", OURS)
def test_a_container_runs_a_command_that_exists_with_options_that_exist(name: str) -> None:
    asked, *rest = project(*ONE)["services"][name]["command"]
    offered = {option for parameter in command_of(asked).params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= offered


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
    of_service = ("HTTP_THREADS", "QUEUE", "DEADLINE", "MAX_BATCH", "QUERY_CACHE")
    assert {**index["environment"], **{f"SCENESEEK_{name}": None for name in of_service}} == server["environment"]


def test_on_a_gpu_the_processor_is_never_taken_in_silence() -> None:
    services = project(*ONE)["services"]
    for name in ("server-gpu", "index-gpu"):
        assert services[name]["environment"]["SCENESEEK_DEVICE"] == "cuda"
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def schema() -> Any:
    vendored = resources.files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json"
    return json.loads(vendored.read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    """Without what Compose adds or leaves out for nothing: values that are not set, numbers as text."""
    if isinstance(value, dict):
        return {name: str(part) for name, part in value.items() if part is not None}
    return value
