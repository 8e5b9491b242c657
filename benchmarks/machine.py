"""The machine a run happens on: what it is, and how much of it others were using meanwhile."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

_STAT = Path("/proc/stat")
_BEHIND = ("onnxruntime", "qdrant-edge-py", "tokenizers", "pillow", "flask", "gunicorn")


def describe() -> dict[str, str]:
    """What a reader needs to compare this run with another."""
    installed = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
    return {
        "machine": f"{_processor()}, {cores()} cores, {_memory_gib():.0f} GiB, {platform.system()}",
        "python": platform.python_version(),
        "with": ", ".join(f"{name} {installed[name]}" for name in _BEHIND if name in installed),
    }


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def others(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell at the end how many cores other processes kept busy meanwhile.

    Children count as others unless they have ended and been waited for by then.
    """
    start, busy, own = time.monotonic(), _busy_seconds(), _own_seconds()
    yield
    if busy is None:
        return
    elapsed = max(time.monotonic() - start, 1e-9)
    theirs = max(0.0, ((_busy_seconds() or 0.0) - busy - (_own_seconds() - own)) / elapsed)
    tell(f"meanwhile other processes took {theirs:.1f} of {cores()} cores, load average {os.getloadavg()[0]:.1f}")


def _own_seconds() -> float:
    return sum(os.times()[:4])


def _busy_seconds() -> float | None:
    """Seconds that all cores together have worked for somebody, stolen ones included; None without /proc."""
    try:
        fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
