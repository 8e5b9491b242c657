"""Memory of the service's processes, and disk space of an index."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Figure, Goal, Section

START_GOAL = Goal("value", 3.0)
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes of a process and its descendants.

    Attributes:
        rss: resident memory of the largest process, including shared pages.
        pss: proportional memory of all processes, in which shared pages count once.
    """

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """The memory of a process tree, from Linux's /proc."""
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
    """The disk space of the files below a directory; holes in sparse files do not count."""
    return sum(512 * file.stat().st_blocks for file in path.rglob("*") if file.is_file())


def server_section(
    starts: Sequence[float], before: Memory, after: Memory, images: int, index: int, width: int
) -> Section:
    """Report a server over an index of `images` points, `index` bytes and vectors of `width` numbers."""
    return Section(
        f"Footprint, {images:,} images",
        [
            Figure("from starting the server to ready", "s", starts, goal=START_GOAL),
            Figure("resident memory at the start, largest process", "MB", [before.rss]),
            Figure("resident memory after the load, largest process", "MB", [after.rss]),
            Figure("proportional memory at the start, all processes", "MB", [before.pss]),
            Figure("proportional memory after the load, all processes", "MB", [after.pss]),
            Figure("index on disk", "bytes/image", [index / images], "the vector alone", [4.0 * width]),
        ],
    )
