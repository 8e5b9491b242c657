"""A parser that splits a Dockerfile into stages; it joins continuation lines and drops comments."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stage:
    """A build stage, with its instructions in order as pairs of keyword and arguments."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, word: str) -> list[str]:
        """Return the arguments of every instruction with this keyword."""
        return [rest for instruction, rest in self.instructions if instruction == word]


def read(file: Path) -> dict[str, Stage]:
    """Return the stages by name, in order."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: dict[str, Stage] = {}
    for line in joined.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = stage = Stage(name, base)
        elif word and stages:
            stage.instructions.append((word, rest.strip()))
    return stages


def lineage(stages: dict[str, Stage], target: str) -> list[Stage]:
    """Return the stage of a target and the stages it is based on, the target first."""
    parents = []
    while target in stages:
        parents.append(stages[target])
        target = stages[target].base
    return parents


def effective(stages: dict[str, Stage], target: str, word: str) -> str:
    """Return the arguments of the instruction that takes effect for a target, or an empty string."""
    values = [stage.of(word)[-1] for stage in lineage(stages, target) if stage.of(word)]
    return values[0] if values else ""


def copied(stage: Stage) -> list[tuple[str, str]]:
    """Return the sources of all ``COPY`` instructions as pairs of stage and path; the build context is ``""``."""
    sources = []
    for rest in stage.of("COPY"):
        flags = [word for word in rest.split() if word.startswith("--")]
        paths = [word for word in rest.split() if not word.startswith("--")]
        origin = next((flag.partition("=")[2] for flag in flags if flag.startswith("--from=")), "")
        sources += [(origin, path) for path in paths[:-1]]
    return sources


def words(form: str) -> list[str]:
    """Return the words of an instruction in exec form."""
    parsed = json.loads(form[form.index("[") :])
    assert isinstance(parsed, list)
    return [str(word) for word in parsed]
