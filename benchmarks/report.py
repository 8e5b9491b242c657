"""What was measured, as a person and as a program reads it. It knows no benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.timing import Spread, ratios


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure's median, or that of its ratio to the floor, should keep to."""

    of: Literal["value", "ratio"]
    limit: float
    at: Literal["most", "least"] = "most"

    def met(self, found: float) -> bool:
        """Whether a median keeps to it."""
        return found <= self.limit if self.at == "most" else found >= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, a value a round, and its floor in the same rounds.

    Attributes:
        name: what was measured.
        unit: of the values and of the floor.
        values: one a round, at least one.
        floor_name: what the floor is; empty where there is none.
        floor: one a round, or empty.
        goal: what it should keep to.
    """

    name: str
    unit: str
    values: Sequence[float]
    floor_name: str = ""
    floor: Sequence[float] = ()
    goal: Goal | None = None

    def ratio(self) -> Spread | None:
        """The spread of value over floor, taken round by round."""
        return Spread.of(ratios(self.values, self.floor)) if self.floor else None

    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
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
        """As JSON values, with every round's value."""
        ratio = self.ratio()
        return {
            **asdict(self),
            "values": list(self.values),
            "floor": list(self.floor),
            "spread": asdict(Spread.of(self.values)),
            "ratio": asdict(ratio) if ratio else None,
            "met": self.met(),
        }


@dataclass
class Section:
    """Figures that belong together, and what a reader must know to judge them."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """As a person reads it."""
        width = max((len(figure.name) for figure in self.figures), default=0)
        return [
            self.title,
            *(f"  {figure.line(width)}" for figure in self.figures),
            *(f"  ({note})" for note in self.notes),
        ]


@dataclass
class Report:
    """A whole run: the machine it ran on, and the sections in the order they were measured."""

    machine: dict[str, str]
    sections: list[Section] = field(default_factory=list)

    def lines(self) -> list[str]:
        """As a person reads it."""
        lines = ["median [smallest .. largest] over the rounds; ratios are taken within a round"]
        lines += [f"{name}: {value}" for name, value in self.machine.items()]
        for section in self.sections:
            lines += ["", *section.lines()]
        return lines

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "machine": self.machine,
            "sections": [
                {"title": s.title, "figures": [f.to_json() for f in s.figures], "notes": s.notes} for s in self.sections
            ],
        }


def _spread(spread: Spread) -> str:
    middle = _number(spread.median)
    if spread.count == 1:
        return middle
    return f"{middle} [{_number(spread.minimum)} .. {_number(spread.maximum)}]"


def _number(value: float) -> str:
    """Three significant digits, and all of those before the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
