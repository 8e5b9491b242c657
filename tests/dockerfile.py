"""A Dockerfile as its stages: what each is made from, copies, and says; continuation lines joined, comments dropped."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stage:
    """One ``FROM``: its instructions in order, each as its word and the rest of the line."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, word: str) -> list[str]:
        """What stands after every instruction of this word."""
        return [rest for instruction, rest in self.instructions if instruction == word]


def read(file: Path) -> dict[str, Stage]:
    """The stages by name, in their order."""
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
    """A target's stage, and those that it is made from, the target first."""
    found = []
    while target in stages:
        found.append(stages[target])
        target = stages[target].base
    return found


def effective(stages: dict[str, Stage], target: str, word: str) -> str:
    """The last that a target's lineage says with this word."""
    said = [stage.of(word)[-1] for stage in lineage(stages, target) if stage.of(word)]
    return said[0] if said else ""


def copied(stage: Stage) -> list[tuple[str, str]]:
    """Every ``COPY``'s sources: the stage it is from, or nothing for the build's context, and the path."""
    found = []
    for rest in stage.of("COPY"):
        flags = [word for word in rest.split() if word.startswith("--")]
        paths = [word for word in rest.split() if not word.startswith("--")]
        origin = next((flag.partition("=")[2] for flag in flags if flag.startswith("--from=")), "")
        found += [(origin, path) for path in paths[:-1]]
    return found


def words(form: str) -> list[str]:
    """The words of an instruction's exec form."""
    found = json.loads(form[form.index("[") :])
    assert isinstance(found, list)
    return [str(word) for word in found]
