"""What was trained on what (JSON values in JSON values) -> a list in a list, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sceneseek_training.report.document import Branch
from sceneseek_training.report.measures import DASH


def branches(values: Mapping[str, Any]) -> tuple[Branch, ...]:
    """The settings, in their order. A list of plain values stays on its line; other entries are numbered."""
    return tuple(_branch(str(name).replace("_", " "), value) for name, value in values.items())


def _branch(name: str, value: Any) -> Branch:
    match value:
        case Mapping() if value:
            return Branch(name, "", branches(value))
        case [*entries] if any(isinstance(entry, (Mapping, list, tuple)) for entry in entries):
            return Branch(name, "", branches({str(i): entry for i, entry in enumerate(entries, start=1)}))
        case [*entries] if entries:
            return Branch(name, ", ".join(map(_plain, entries)))
        case _:
            return Branch(name, _plain(value))


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None | "" | [] | ():
            return DASH
        case float():
            return f"{value:.6g}"
        case Mapping():  # an empty one; others are branches
            return DASH
        case _:
            return str(value)
