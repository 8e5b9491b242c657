"""Every command in a page, comment, error message or recipe is valid, as far as can be checked without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import commands
from tests.commands import Command, Wrong, check_compose, check_sceneseek
from tests.stack import ONE, ROOT, project

# Each distinct command, with the file of its first occurrence.
COMMANDS: dict[Command, str] = {}
for files, find in ((commands.pages(), commands.in_page), (commands.commented(), commands.in_comments)):
    for file in files:
        for candidate in find(file.read_text(encoding="utf-8")):
            # A complete command is checked more strictly than a partial one.
            if Command(candidate.words) not in COMMANDS:
                COMMANDS.setdefault(candidate, str(file.relative_to(ROOT)))
DOCKER_COMPOSE = (
    shutil.which("docker")
    and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove this machine's settings, which readers do not have."""
    for name in list(os.environ):
        if name.startswith("SCENESEEK_"):
            monkeypatch.delenv(name)


def each_command_of(program: str) -> pytest.MarkDecorator:
    """Parametrize a test with the commands of a program."""
    named = [(command, where) for command, where in COMMANDS.items() if command.words[0] == program]
    return pytest.mark.parametrize(("command", "where"), named, ids=[f"{where}: {command}" for command, where in named])


@each_command_of("sceneseek")
def test_documented_sceneseek_command_is_valid(command: Command, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_sceneseek(command, {}, monkeypatch)


@each_command_of("docker")
def test_documented_docker_compose_command_is_valid(
    command: Command, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_compose(command, monkeypatch)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@each_command_of("make")
def test_documented_make_command_is_valid(command: Command, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = set(re.findall(r"^(\w+) [?:]?=", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {word.partition("=")[0] for word in command.words if "=" in word} <= declared
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "--assume-old=.env", "DOCKER=true", *command.words[1:]],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in re.sub(r"\\\n\s*", " ", done.stdout).splitlines():
        for step in commands.in_line(line):
            if step.words[0] == "sceneseek":
                check_sceneseek(step, {}, monkeypatch)


def test_commands_are_extracted_from_every_kind_of_file() -> None:
    places = {(command.words[0], Path(where).suffix) for command, where in COMMANDS.items()}
    assert places >= {
        ("sceneseek", ".md"),
        ("docker", ".md"),
        ("make", ".md"),
        ("docker", ".yml"),
        ("sceneseek", ".py"),
    }
    assert len(COMMANDS) > 100


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("$ sceneseek search 'a dog' | head", ["sceneseek search 'a dog'"]),
        ("A=b .venv/bin/sceneseek index x >log 2>&1", ["sceneseek index x"]),
        ("0 * * * *  cd /srv && make reindex >>/var/log/x 2>&1", ["make reindex"]),
        ("curl http://localhost/ # make nothing", []),
        ("sceneseek keys add NAME [--expires 90]", ["sceneseek keys add NAME --expires 90"]),
        ("sceneseek train heads ... --out heads", ["sceneseek train heads --out heads"]),
    ],
)
def test_commands_are_extracted_from_shell_line(line: str, expected: list[str]) -> None:
    assert [str(command) for command in commands.in_line(line.removeprefix("$ "))] == expected


def test_command_in_comment_ends_with_its_sentence() -> None:
    text = (
        "# Makes keys: docker compose run --rm keys add NAME. The directory\nkey: make `make up`, `sceneseek serve`\n"
    )
    assert [str(c) for c in commands.in_comments(text)] == [
        "make up", "sceneseek serve", "docker compose run --rm keys add NAME",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "sceneseek serch a", "sceneseek search a --no-such-option", "sceneseek keys add", "sceneseek keys ad NAME",
        "sceneseek serve --port many", "sceneseek index a --precision int9",
    ],
)  # fmt: skip
def test_invalid_sceneseek_command_is_detected(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = commands.in_line(line)
    with pytest.raises(Wrong):
        check_sceneseek(command, {}, monkeypatch)


@pytest.mark.parametrize(
    "line",
    [
        "docker compose run --rm key add NAME", "docker compose run --rm keys ad NAME", "docker compose up --no-such",
        "docker compose --profile tpu up", "docker compose -f no-such.yml up", "docker compose begin",
        "docker compose run --rm index-cpu index /images --no-such-option",
    ],
)  # fmt: skip
def test_invalid_docker_compose_command_is_detected(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = commands.in_line(line)
    with pytest.raises(Wrong):
        check_compose(command, monkeypatch)


def test_command_replaced_by_compose_run_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker compose run` replaces `command`; `keys` in it instead of `entrypoint` was a bug once."""
    before = project(*ONE)
    before["services"]["keys"].update(entrypoint=None, command=["keys", "list"])
    monkeypatch.setattr(commands, "project", lambda *_: before)
    (command,) = commands.in_line("docker compose run --rm keys add NAME")
    with pytest.raises(Wrong, match="No such command 'add'"):
        check_compose(command, monkeypatch)


@pytest.mark.parametrize("name", [name for name, service in project(*ONE)["services"].items() if "build" in service])
def test_default_command_of_container_is_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_compose(Command(("docker", "compose", "run", name)), monkeypatch)


Recorded = Callable[..., list[Command]]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """Run make with a fake docker, and return the commands that it received."""
    program, log = tmp_path / "docker", tmp_path / "log"
    program.write_text(
        '#!/bin/sh\nprintf "%s\\037" "$@" >>"$LOG"; echo >>"$LOG"\ncase "$*" in *basename*) echo "$MISSING";; esac\n'
    )
    program.chmod(0o755)

    def run(*arguments: str, missing: str = "") -> list[Command]:
        log.write_text("")
        subprocess.run(
            ["make", "--assume-old=.env", f"DOCKER={program}", *arguments],
            cwd=ROOT, env={**os.environ, "LOG": str(log), "MISSING": missing},
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        return [Command(("docker", *line.split("\037")[:-1])) for line in log.read_text().splitlines()]

    return run


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("cluster", ["", "1"], ids=["one node", "cluster"])
@pytest.mark.parametrize("goal", ["up", "reindex", "down"])
def test_docker_compose_commands_of_make_are_valid(
    recorded: Recorded, goal: str, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for profile in ("cpu", "gpu"):
        executed = recorded(goal, f"PROFILE={profile}", f"CLUSTER={cluster}", "OPTIONS=--prune")
        assert len(executed) > 1
        for command in executed:
            check_compose(command, monkeypatch)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("pack", "service"), [("compact", "export"), ("clip", "export-hub"), ("", None)])
def test_missing_bundle_is_exported_by_service_for_its_pack(recorded: Recorded, pack: str, service: str | None) -> None:
    run = [command.words[-1] for command in recorded("stack-bundle", missing=pack) if command.words[-2:-1] == ("--rm",)]
    assert run == ([service] if service else [])


@pytest.mark.skipif(not DOCKER_COMPOSE, reason="docker compose is not installed")
def test_known_docker_compose_options_exist() -> None:
    for name, options in commands._OF_COMMANDS.items():
        usage = subprocess.run(["docker", "compose", name, "--help"], capture_output=True, text=True, check=True).stdout
        assert all(re.search(rf"(?<!\S){option}\b", usage) for option in options), (name, options)


def test_documented_extras_exist() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    texts = [file.read_text(encoding="utf-8") for file in [*commands.pages(), *commands.commented()]]
    named = {
        extra for text in texts for group in re.findall(r"sceneseek\[([\w,]+)\]", text) for extra in group.split(",")
    }
    assert named <= declared.keys()
    assert "qdrant" in named


def test_documented_modules_and_scripts_exist() -> None:
    for page in commands.pages():
        text = page.read_text(encoding="utf-8")
        for module in re.findall(r"python3? -m ((?:benchmarks|sceneseek)[\w.]*\w)", text):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), (page.name, module)
        for program in re.findall(r"`?(scripts/[\w-]+(?:\.\w+)?)", text):
            assert (ROOT / program).is_file(), (page.name, program)
