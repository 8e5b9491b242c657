"""What the product takes: memory of a running server, bytes of an index, bytes of an installation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.report import Figure, Goal, Section

START_GOAL = Goal("value", 3.0)
RUNTIME_GOAL = Goal("value", 360.0)
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes of a process and its descendants.

    Attributes:
        rss: resident in the largest of them, pages shared with others included.
        pss: of all of them, a page that several share counted once.
    """

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """The memory of a process tree, as Linux has it in /proc."""
    rollups = [_rollup(process) for process in _tree(pid)]
    return Memory(max(r["Rss"] for r in rollups) / _MB, sum(r["Pss"] for r in rollups) / _MB)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            yield from _tree(int(child))


def _rollup(pid: int) -> dict[str, int]:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return {name: 1024 * int(size) for name, size in re.findall(r"^(Rss|Pss):\s+(\d+) kB$", text, re.MULTILINE)}


def directory_bytes(path: Path) -> int:
    """What the files below a directory take on the disk; holes in them take nothing."""
    return sum(512 * file.stat().st_blocks for file in path.rglob("*") if file.is_file())


def installed_bytes(project: str, extras: Sequence[str]) -> dict[str, int]:
    """The bytes of every distribution that a project and its extras need to run, by name, largest first.

    Counted are the files that each distribution has recorded, and for one that is installed editable
    those of its packages. What is not installed is left out.
    """
    sizes = {name: _distribution_bytes(metadata.distribution(name)) for name in _closure(project, extras)}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _closure(project: str, extras: Sequence[str]) -> set[str]:
    """The names of a project's installed requirements, their requirements and so on, and its own."""
    seen: set[tuple[str, str]] = set()
    todo = [(canonicalize_name(project), extra) for extra in ("", *extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in metadata.requires(name) or ():
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": extra}):
                continue
            if _is_installed(need.name):
                todo += [(canonicalize_name(need.name), wanted) for wanted in ("", *need.extras)]
    return {name for name, _ in seen}


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _distribution_bytes(distribution: metadata.Distribution) -> int:
    files = {Path(str(file.locate())) for file in distribution.files or ()}
    # An editable installation records no more than a pointer to its sources.
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        sources = Path(url2pathname(urlsplit(origin["url"]).path))
        for package in (distribution.read_text("top_level.txt") or "").split():
            files |= set((sources / package).rglob("*"))
    return sum(file.stat().st_size for file in files if file.is_file())


def server_section(
    starts: Sequence[float], before: Memory, after: Memory, images: int, index: int, width: int
) -> Section:
    """The report of a server over an index of `images` points, `index` bytes, vectors `width` wide."""
    return Section(
        f"Footprint, {images:,} images",
        [
            Figure("from starting the server to ready", "s", starts, goal=START_GOAL),
            Figure("resident memory at the start, largest process", "MB", [before.rss]),
            Figure("resident memory after the load, largest process", "MB", [after.rss]),
            Figure("proportional memory at the start, all processes", "MB", [before.pss]),
            Figure("proportional memory after the load, all processes", "MB", [after.pss]),
            Figure("index on the disk", "bytes/image", [index / images], "the vector alone", [4.0 * width]),
        ],
    )


def runtime_section(sizes: dict[str, int]) -> Section:
    """The report of `installed_bytes`."""
    largest = ", ".join(f"{name} {size / _MB:.0f}" for name, size in list(sizes.items())[:6])
    return Section(
        "Installed runtime: the base and the extra `cpu`",
        [Figure("all distributions", "MB", [sum(sizes.values()) / _MB], goal=RUNTIME_GOAL)],
        [f"{len(sizes)} distributions, the largest: {largest}"],
    )
