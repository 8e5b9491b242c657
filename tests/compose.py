"""A reader of Compose files that supports what the stack's files use: variables, `extends` and override files.

It merges mappings, lists and volumes. It does not support `!reset`, `include` or remote build contexts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Project = dict[str, Any]
# Matches ${NAME}, ${NAME:-default}, ${NAME:+value if set} and ${NAME:?message}.
_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?::(?P<how>[-+?])(?P<rest>[^}]*))?\})")
# An override file appends to lists, except to these, which it replaces.
_REPLACED = {"command", "entrypoint", "test"}


class MissingVariable(Exception):
    """A required variable is not set; the message is that of the file."""


def variables(text: str) -> set[str]:
    """Return the variables that a file uses, as ``${NAME}`` or as a key without a value."""
    named = {match["name"] for match in _VARIABLE.finditer(text) if match["name"]}
    return named | set(re.findall(r"^ +([A-Z][A-Z0-9_]+):$", text, re.MULTILINE))


def settings(text: str) -> dict[str, str]:
    """Parse a ``.env`` file; a value is a bare word or in single quotes."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, value = line.partition("=")
            bare = re.fullmatch(r"[^\s'\"$\\#]*", value)
            quoted = re.fullmatch(r"'([^']*)'", value)
            if not re.fullmatch(r"\w+", name) or not (bare or quoted):
                raise ValueError(line)
            values[name] = quoted[1] if quoted else value
    return values


def load(*files: Path, environment: Mapping[str, str]) -> Project:
    """Load a project from one or more files, each of which overrides those before it."""
    project: Project = {}
    for file in files:
        project = _merged(project, _read(file, environment))
    return {name: part for name, part in project.items() if not name.startswith("x-")}


def _read(file: Path, environment: Mapping[str, str]) -> Project:
    project: Project = _filled(yaml.safe_load(file.read_text(encoding="utf-8")), environment)
    for name, service in project["services"].items():
        if base := service.pop("extends", None):
            inherited = _read(file.with_name(base["file"]), environment)["services"][base["service"]]
            project["services"][name] = _merged(inherited, service)
    return project


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(part, environment) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, environment) for part in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _value(match, environment), value)
    return value


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    if value := environment.get(match["name"]):
        return match["rest"] if match["how"] == "+" else value
    if match["how"] == "?":
        raise MissingVariable(match["rest"])
    return "" if match["how"] == "+" else match["rest"] or ""


def _merged(first: Any, second: Any, name: str = "") -> Any:
    if isinstance(first, dict) and isinstance(second, dict):
        shared = {key: _merged(first[key], second[key], key) for key in first.keys() & second.keys()}
        return {**first, **second, **shared}
    if name == "volumes" and isinstance(first, list):
        by_target = {target(volume): volume for volume in [*first, *second]}
        return list(by_target.values())
    if isinstance(first, list) and name not in _REPLACED:
        return [*first, *(part for part in second if part not in first)]
    return second


def target(volume: Any) -> str:
    """Return the path of a volume inside the container."""
    return str(volume["target"]) if isinstance(volume, dict) else volume.split(":")[1]


def source(volume: Any) -> str:
    """Return the name of a volume, or its path on the host."""
    return str(volume["source"]) if isinstance(volume, dict) else volume.split(":")[0]
