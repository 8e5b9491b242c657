"""Changes of a source folder by processes that get SIGKILL before each line in turn.

The parent is single-threaded so that it can fork: one child per line, each with its own path.
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from sceneseek import files, local_folder, pending_changes
from sceneseek.payload import point_id
from sceneseek.pending_changes import Change, PendingChanges

_TRACED = {module.__file__ for module in (files, pending_changes, local_folder)}


def put(pending: PendingChanges, path: str, content: bytes, replaced: bytes | None = None) -> Change:
    """Put an image; `replaced` is the content that it replaces, if any."""
    tags = None if replaced is None else {hashlib.sha256(replaced).hexdigest()}
    with pending.receive() as received:
        received.write(io.BytesIO(content))
        return pending.put(point_id(path), path, received, tags)


def killed_before_each_line(change: Callable[[str], object], before: Callable[[str], object], name: str) -> list[str]:
    """Repeat a change, each time at a new path, and kill it before its first line, then its second, and so on.

    Args:
        change: makes the change at a path.
        before: prepares the path.
        name: format string of the paths, with a number.

    Returns:
        The paths; the change of the last one was not killed.
    """
    paths: list[str] = []
    for line in count(1):
        paths.append(name.format(line))
        before(paths[-1])
        child = os.fork()
        if child == 0:
            _run(lambda: change(paths[-1]), line)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return paths
    raise AssertionError


def _run(change: Callable[[], object], lines: int) -> None:
    """Run the change in the child; the child is killed before its `lines`-th line."""
    left = lines

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in _TRACED:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    code = 1
    try:
        sys.settrace(trace)
        change()
        code = 0
    finally:
        sys.settrace(None)
        os._exit(code)


def main(folder: Path) -> None:
    """Kill changes of every kind; print the paths of those that completed."""
    pending = PendingChanges(folder)
    pending.prepare()
    old, new = ((folder.parent / name).read_bytes() for name in ("old", "new"))
    for name, change, before in (
        ("a/put{}.png", lambda path: put(pending, path, new), lambda _path: None),
        ("b/replaced{}.png", lambda path: put(pending, path, new, old), lambda path: put(pending, path, old)),
        ("c/deleted{}.png", lambda path: pending.delete(point_id(path), path), lambda path: put(pending, path, old)),
    ):
        sys.stdout.write(f"{killed_before_each_line(change, before, name)[-1]}\n")
        sys.stdout.flush()


def main_settling(folder: Path) -> None:
    """Kill the settling of three changes: an accepted, a refused and a deleted image."""
    pending = PendingChanges(folder)
    pending.prepare()
    for path in ("accepted.png", "refused.png", "deleted.png"):
        put(pending, path, path.encode())
    pending.delete(point_id("deleted.png"), "deleted.png")
    refused = {point_id("refused.png"): "it is none"}

    def remove_leftovers(_name: str) -> None:
        # `prepare` removes old ones only; left here, they would make each call longer than the last.
        for path in (folder / ".sceneseek/changes").glob(".*"):
            path.unlink()

    killed_before_each_line(lambda _name: pending.settle(pending.all(), refused, True), remove_leftovers, "{}")


if __name__ == "__main__":
    {"changes": main, "settling": main_settling}[sys.argv[1]](Path(sys.argv[2]))
