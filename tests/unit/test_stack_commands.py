"""Every command that a page, a comment, an error or a recipe names can be run, as far as one sees without an engine."""

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

# Each once, and where it was seen first.
FOUND: dict[Command, str] = {}
for files, find in ((commands.pages(), commands.in_page), (commands.commented(), commands.in_comments)):
    for file in files:
        for found in find(file.read_text(encoding="utf-8")):
            if (
                Command(found.words) not in FOUND
            ):  # one that stands there whole is held to more than one that is mentioned
                FOUND.setdefault(found, str(file.relative_to(ROOT)))
DOCKER_COMPOSE = (
    shutil.which("docker")
    and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's settings are not the reader's."""
    for name in list(os.environ):
        if name.startswith("SCENESEEK_"):
            monkeypatch.delenv(name)


def of(program: str) -> pytest.MarkDecorator:
    """The commands that begin with a program."""
    named = [(command, where) for command, where in FOUND.items() if command.words[0] == program]
    return pytest.mark.parametrize(("command", "where"), named, ids=[f"{where}: {command}" for command, where in named])


@of("sceneseek")
def test_the_command_line_takes_it(command: Command, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_sceneseek(command, {}, monkeypatch)


@of("docker")
def test_compose_finds_what_it_names_and_the_container_takes_its_arguments(
    command: Command, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_compose(command, monkeypatch)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@of("make")
def test_make_has_the_target_and_the_variables(command: Command, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_commands_of_each_kind_are_found_in_each_kind_of_place() -> None:
    places = {(command.words[0], Path(where).suffix) for command, where in FOUND.items()}
    assert places >= {
        ("sceneseek", ".md"),
        ("docker", ".md"),
        ("make", ".md"),
        ("docker", ".yml"),
        ("sceneseek", ".py"),
    }
    assert len(FOUND) > 100


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("$ sceneseek search 'a dog' | head", ["sceneseek search 'a dog'"]),
        ("A=b .venv/bin/sceneseek index x >log 2>&1", ["sceneseek index x"]),
        ("0 * * * *  cd /srv && make reindex >>/var/log/x 2>&1", ["make reindex"]),
        ("curl http://localhost/ # make nothing", []),
        ("sceneseek keys add NAME [--expires 90]", ["sceneseek keys add NAME --expires 90"]),
        ("sceneseek train heads ... --out heads", ["sceneseek train heads --out heads"]),
    ],
)
def test_a_line_is_read_as_a_shell_does(line: str, found: list[str]) -> None:
    assert [str(command) for command in commands.in_line(line.removeprefix("$ "))] == found


def test_a_comment_is_read_to_the_end_of_its_sentence() -> None:
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
def test_a_wrong_command_line_is_found(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_wrong_compose_command_is_found(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = commands.in_line(line)
    with pytest.raises(Wrong):
        check_compose(command, monkeypatch)


def test_a_command_that_run_replaces_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """`keys` once stood in `command`, which `docker compose run --rm keys add NAME` replaces."""
    before = project(*ONE)
    before["services"]["keys"].update(entrypoint=None, command=["keys", "list"])
    monkeypatch.setattr(commands, "project", lambda *_: before)
    (command,) = commands.in_line("docker compose run --rm keys add NAME")
    with pytest.raises(Wrong, match="No such command 'add'"):
        check_compose(command, monkeypatch)


@pytest.mark.parametrize("name", [name for name, service in project(*ONE)["services"].items() if "build" in service])
def test_a_container_runs_its_default_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_compose(Command(("docker", "compose", "run", name)), monkeypatch)


Recorded = Callable[..., list[Command]]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """Run make with a docker that does nothing; the commands that it was called with."""
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
def test_what_make_asks_of_compose_can_be_done(
    recorded: Recorded, goal: str, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for profile in ("cpu", "gpu"):
        asked = recorded(goal, f"PROFILE={profile}", f"CLUSTER={cluster}", "OPTIONS=--prune")
        assert len(asked) > 1
        for command in asked:
            check_compose(command, monkeypatch)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("pack", "service"), [("compact", "export"), ("clip", "export-hub"), ("", None)])
def test_a_bundle_that_is_missing_is_written_by_the_service_for_its_pack(
    recorded: Recorded, pack: str, service: str | None
) -> None:
    run = [command.words[-1] for command in recorded("stack-bundle", missing=pack) if command.words[-2:-1] == ("--rm",)]
    assert run == ([service] if service else [])


@pytest.mark.skipif(not DOCKER_COMPOSE, reason="docker compose is not installed")
def test_compose_has_the_options_that_the_tests_know() -> None:
    for name, options in commands._OF_COMMANDS.items():
        said = subprocess.run(["docker", "compose", name, "--help"], capture_output=True, text=True, check=True).stdout
        assert all(re.search(rf"(?<!\S){option}\b", said) for option in options), (name, options)


def test_extras_that_pages_name_exist() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    texts = [file.read_text(encoding="utf-8") for file in [*commands.pages(), *commands.commented()]]
    named = {
        extra for text in texts for group in re.findall(r"sceneseek\[([\w,]+)\]", text) for extra in group.split(",")
    }
    assert named <= declared.keys()
    assert "qdrant" in named


def test_modules_and_programs_that_pages_name_exist() -> None:
    for page in commands.pages():
        text = page.read_text(encoding="utf-8")
        for module in re.findall(r"python3? -m ((?:benchmarks|sceneseek)[\w.]*\w)", text):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), (page.name, module)
        for program in re.findall(r"`?(scripts/[\w-]+(?:\.\w+)?)", text):
            assert (ROOT / program).is_file(), (page.name, program)
