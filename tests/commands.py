"""Extract the commands that documents, comments and recipes mention, and check them without running them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from sceneseek.cli import cli
from tests import dockerfile
from tests.stack import ROOT, STAGES, THREE, project

PROGRAMS = ("sceneseek", "docker", "make")
ROLES = ("sceneseek", "export", "training", "indexer", "evaluation", "server")
_ENDS_A_COMMAND = {"|", "||", "&&", ";", "&", "(", ")", ";;"}
_SHELLS = ("", "sh", "bash", "shell", "console")

# Options of `docker compose` and of its subcommands, with the number of values that each takes.
_OF_COMPOSE = {"-f": 1, "--file": 1, "--profile": 1, "--env-file": 1}
_OF_COMMANDS = {
    "build": {},
    "config": {"--quiet": 0, "--format": 1},
    "down": {"--volumes": 0},
    "exec": {"-T": 0},
    "logs": {"--follow": 0, "--tail": 1},
    "ps": {"--all": 0},
    "restart": {},
    "run": {"--rm": 0, "-T": 0, "--no-deps": 0, "--detach": 0, "--name": 1, "--entrypoint": 1, "--env": 1},
    "up": {"--detach": 0, "--wait": 0, "--wait-timeout": 1},
    "version": {},
}  # fmt: skip


class Wrong(Exception):
    """The command would fail; the message gives the reason."""


@dataclass(frozen=True)
class Command:
    """A command found in a text.

    Attributes:
        words: program and arguments.
        partial: whether the text only mentions the command, so that required arguments may be missing.
    """

    words: tuple[str, ...]
    partial: bool = False

    def __str__(self) -> str:
        return shlex.join(self.words)


def in_page(text: str) -> Iterator[Command]:
    """Yield the commands in the shell blocks and in the inline code of a Markdown page."""
    blocks = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for language, block in blocks.findall(text):
        if language in _SHELLS:
            lines = re.sub(r"\\\n\s*", " ", block).splitlines()
            prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
            for line in prompted or lines:
                yield from in_line(line)
    for mentioned in re.findall(r"`([^`\n]+)`", blocks.sub("", text)):
        yield from in_line(mentioned, partial=True)


def in_comments(text: str) -> Iterator[Command]:
    """Yield the commands between backticks and after `docker compose` in a file's comments and messages."""
    for mentioned in re.findall(r"`([^`\n]+)`", text):
        yield from in_line(mentioned, partial=True)
    for mentioned in re.findall(r"^#[^`\n]*?(docker compose [^`\n]*)", text, re.MULTILINE):
        sentence = re.match(r"(?:[^\s.,;:]|[.,;:](?=\S))+(?: (?:[^\s.,;:]|[.,;:](?=\S))+)*", mentioned)
        assert sentence is not None
        yield from in_line(sentence[0], partial=True)


def in_line(line: str, partial: bool = False) -> Iterator[Command]:
    """Yield the commands in one line of shell."""
    lexer = shlex.shlex(line.replace("[", " ").replace("]", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:  # not shell: an unclosed quotation mark
        return
    words: list[str] = []
    skip = False
    for token in [*tokens, ";"]:
        if skip:
            skip = False
        elif token in _ENDS_A_COMMAND:
            yield from _command(words, partial)
            words = []
        elif token.startswith(("<", ">")):
            skip = True
            if words and words[-1].isdigit():
                words.pop()
        else:
            words.append(token)


def _command(words: list[str], partial: bool) -> Iterator[Command]:
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words and words[0].rpartition("/")[2] in PROGRAMS:
        known = [word for word in words[1:] if word != "..."]
        yield Command((words[0].rpartition("/")[2], *known), partial or "..." in words)


def check_sceneseek(command: Command, environment: Mapping[str, Any], patch: pytest.MonkeyPatch) -> None:
    """Parse a command with the real command line, without running it.

    Raises:
        Wrong: the command or an option is unknown, or a value is invalid.
    """
    if "COMMAND" in command.words:  # a placeholder for any command
        return
    with patch.context() as here:
        here.setattr(click.Command, "invoke", lambda *_: None)
        for name, value in environment.items():
            if value is not None:
                here.setenv(name, str(value))
        try:
            cli.main(list(command.words[1:]), prog_name="sceneseek", standalone_mode=False)
        except click.BadParameter as error:
            missing = isinstance(error, click.MissingParameter)
            named = error.param is not None and isinstance(error.param.type, click.Path | click.File)
            if not (command.partial if missing else named):
                raise Wrong(error.format_message()) from error
        except click.BadOptionUsage as error:
            if not (command.partial and command.words[-1] == error.option_name):
                raise Wrong(error.format_message()) from error
        except click.UsageError as error:
            nothing = isinstance(error, click.exceptions.NoArgsIsHelpError) or error.message == "Missing command."
            if not (command.partial and nothing):
                raise Wrong(error.format_message()) from error


def check_compose(command: Command, patch: pytest.MonkeyPatch) -> None:
    """Check the options, files, profiles and services of a Docker Compose command, and the command in the container.

    Raises:
        Wrong: one of them does not exist.
    """
    if command.words[1:2] != ("compose",):
        return
    global_options, rest = _options(list(command.words[2:]), _OF_COMPOSE)
    if not rest:
        return
    # Without -f, Compose reads the files in COMPOSE_FILE of .env.
    files = tuple(ROOT / value for name, value in global_options if name in ("-f", "--file")) or THREE
    if lost := [file for file in files if not file.is_file()]:
        raise Wrong(f"there is no {lost[0].name}")
    services: dict[str, Any] = project(*files)["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    if unknown := {value for name, value in global_options if name == "--profile"} - profiles:
        raise Wrong(f"there is no profile {unknown}")
    name, *arguments = rest
    if name not in _OF_COMMANDS:
        raise Wrong(f"there is no docker compose {name}, or the test does not know it")
    options, positional = _options(arguments, _OF_COMMANDS[name])
    named = positional[:1] if name in ("run", "exec") else positional
    if unknown := set(named) - services.keys():
        raise Wrong(f"there is no service {unknown}")
    if name == "run":
        _check_run(Command(tuple(positional), command.partial), services, dict(options).get("--entrypoint"), patch)


def _check_run(command: Command, services: dict[str, Any], entrypoint: str | None, patch: pytest.MonkeyPatch) -> None:
    if not command.words:
        if not command.partial:
            raise Wrong("run needs a service")
        return
    service = services[command.words[0]]
    if "build" not in service:
        return
    target = service["build"]["target"]
    program, arguments = [entrypoint or ""], list(command.words[1:])
    if entrypoint is None:
        program = service.get("entrypoint") or dockerfile.words(dockerfile.effective(STAGES, target, "ENTRYPOINT"))
        default = service.get("command") or dockerfile.words(dockerfile.effective(STAGES, target, "CMD"))
        arguments = arguments or default
    if program[0] == "sceneseek":
        whole = Command((*program, *arguments), command.partial)
        check_sceneseek(whole, service.get("environment", {}), patch)


def _options(words: list[str], known: Mapping[str, int]) -> tuple[list[tuple[str, str]], list[str]]:
    """Split words into the leading options, each with its value, and the remaining words."""
    options = []
    while words and words[0].startswith("-"):
        name = words.pop(0)
        if name not in known:
            raise Wrong(f"there is no option {name}, or the test does not know it")
        options.append((name, words.pop(0) if known[name] else ""))
    return options, words


def pages() -> list[Path]:
    """Every page of documentation."""
    names = ("README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md")
    return [*(ROOT / name for name in names), *sorted((ROOT / "docs").rglob("*.md"))]


def commented() -> list[Path]:
    """Every file of the stack and the program whose comments or messages may mention commands."""
    names = ("Makefile", "Dockerfile", ".env.example", "constraints.txt", "pyproject.toml", ".ci/run")
    return [*(ROOT / name for name in names), *sorted(ROOT.glob("docker-compose*.yml")),
            *sorted((ROOT / "deploy").glob("*.*")), *sorted((ROOT / "scripts").iterdir()),
            *(file for room in ROLES for file in sorted((ROOT / room).rglob("*.py")))]  # fmt: skip
