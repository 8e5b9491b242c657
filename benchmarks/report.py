"""Figures, sections and the report of a run, as text, as JSON and as an exit code."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NoReturn

import click

from benchmarks.timing import Spread, cores, ratios
from sceneseek.files import write_atomic

_PACKAGES = ("onnxruntime", "qdrant-edge-py", "tokenizers", "pillow", "flask", "gunicorn")

json_option = click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures of every round to this file."
)


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit for the median of a figure, or of its ratio to the floor."""

    of: Literal["value", "ratio"]
    limit: float
    at: Literal["most", "least"] = "most"

    def met(self, median: float) -> bool:
        """Whether the median is within the limit."""
        return median <= self.limit if self.at == "most" else median >= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity measured once per round, and its floor in the same rounds.

    Attributes:
        name: what was measured.
        unit: of the values and of the floor.
        values: one per round, at least one.
        floor_name: what the floor is; empty if there is none.
        floor: one per round, or empty.
        goal: the limit that it should stay within; optional.
    """

    name: str
    unit: str
    values: Sequence[float]
    floor_name: str = ""
    floor: Sequence[float] = ()
    goal: Goal | None = None

    def ratio(self) -> Spread | None:
        """The spread of the ratio of value to floor within each round."""
        return Spread.of(ratios(self.values, self.floor)) if self.floor else None

    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        ratio = self.ratio()
        spread = ratio if self.goal.of == "ratio" and ratio else Spread.of(self.values)
        return self.goal.met(spread.median)

    def line(self, width: int) -> str:
        """The figure as one line, its name padded to `width`."""
        parts = [f"{self.name:<{width}}  {_spread(Spread.of(self.values))} {self.unit}"]
        ratio = self.ratio()
        if ratio is not None:
            parts.append(f"floor {_spread(Spread.of(self.floor))} ({self.floor_name})")
            parts.append(f"ratio {_spread(ratio)}")
        if self.goal is not None:
            parts.append(f"goal at {self.goal.at} {_number(self.goal.limit)}: {'met' if self.met() else 'MISSED'}")
        return " | ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON values, including those of every round."""
        ratio = self.ratio()
        return {
            **asdict(self),
            "values": list(self.values),
            "floor": list(self.floor),
            "spread": asdict(Spread.of(self.values)),
            "ratio": asdict(ratio) if ratio else None,
            "met": self.met(),
        }


def describe() -> dict[str, str]:
    """The machine and the package versions, for comparing runs."""
    installed = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
    return {
        "machine": f"{_processor()}, {cores()} cores, {_memory_gib():.0f} GiB, {platform.system()}",
        "python": platform.python_version(),
        "with": ", ".join(f"{name} {installed[name]}" for name in _PACKAGES if name in installed),
    }


@dataclass
class Section:
    """Related figures, and notes that help to interpret them."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The section as lines of text."""
        width = max((len(figure.name) for figure in self.figures), default=0)
        return [
            self.title,
            *(f"  {figure.line(width)}" for figure in self.figures),
            *(f"  ({note})" for note in self.notes),
        ]


@dataclass
class Report:
    """A whole run: the machine, and the sections in the order of measurement."""

    machine: dict[str, str] = field(default_factory=describe)
    sections: list[Section] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = ["median [minimum .. maximum] over the rounds; ratios are taken within a round"]
        lines += [f"{name}: {value}" for name, value in self.machine.items()]
        for section in self.sections:
            lines += ["", *section.lines()]
        return lines

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "machine": self.machine,
            "sections": [
                {"title": s.title, "figures": [f.to_json() for f in s.figures], "notes": s.notes} for s in self.sections
            ],
        }

    def write(self, json_file: Path | None = None) -> None:
        """Print the report, and write it to a JSON file if one is given."""
        for line in self.lines():
            click.echo(line)
        if json_file is not None:
            write_atomic(json_file, json.dumps(self.to_json(), indent=2).encode("utf-8"))

    def finish(self, json_file: Path | None = None) -> NoReturn:
        """Write the report and exit, with code 1 if a goal is missed."""
        self.write(json_file)
        sys.exit(int(any(figure.met() is False for section in self.sections for figure in section.figures)))


def _spread(spread: Spread) -> str:
    median = _number(spread.median)
    if spread.count == 1:
        return median
    return f"{median} [{_number(spread.minimum)} .. {_number(spread.maximum)}]"


def _number(value: float) -> str:
    """The value with three significant digits, and at least all digits before the decimal point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
