"""A run's receipt as JSON lines: the fate of every file, written as the work becomes durable.

    {"kind": "run", "generation": ..., "bundle": ..., "image": ..., "sources": [...], "resumed": ..., "started": ...}
    {"kind": "file", "fate": ..., "source": 0, "path": ..., "id": ..., "sha256": ...}
    {"kind": "end", "generation": ..., "counts": {...}, "seconds": {...}}

A fate is one of indexed, unchanged, touched, renamed and copied (both with `from`), removed, gone, skipped and
ignored (both with `reason` and `what`); `id` and `sha256` are there where they are known, `path_bytes` where the
name is not UTF-8. A run without its last line was killed, or failed. A later run goes on below, in a file
that is there already: what counts is what stands after the last line of kind `run`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from sceneseek.errors import SourceError, one_line
from sceneseek.payload import path_fields
from sceneseek.store import VectorStore
from sceneseek.store.edge import EdgeStore
from sceneseek_indexer.known import Known
from sceneseek_indexer.walk import ImageFile, Skipped

Line = dict[str, Any]


class ReceiptFile:
    """The file, opened to go on below what stands there; without a path nothing is written.

    Raises:
        SourceError: it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _cut_torn_line(path)
                self._file = path.open("a", encoding="utf-8")
            except OSError as error:
                what = f"the report {path} cannot be written ({error.strerror})"
                raise SourceError(what, "check --report") from error

    def __enter__(self) -> ReceiptFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, lines: Sequence[Line]) -> None:
        """Append lines; another process sees them when this returns."""
        if self._file is not None and lines:
            self._file.write("".join(f"{json.dumps(line)}\n" for line in lines))
            self._file.flush()


def file_line(
    fate: str, image: ImageFile | Known, identity: str = "", sha256: str = "", origin: Known | None = None
) -> Line:
    """An image's fate."""
    line: Line = {"kind": "file", "fate": fate, "source": image.source, **path_fields(image.relative)}
    if isinstance(image, Known):
        identity, sha256 = image.id, image.sha256
    line |= {name: value for name, value in (("id", identity), ("sha256", sha256)) if value}
    if origin is not None:
        line |= {"from": path_fields(origin.relative)["path"], "from_source": origin.source}
    return line


def skipped_line(fate: str, entry: Skipped) -> Line:
    """What became of a file that is not used, and why."""
    return {
        "kind": "file",
        "fate": fate,
        "source": entry.source,
        **path_fields(entry.relative),
        "reason": entry.reason,
        "what": one_line(entry.what),
    }


def earlier_lines(path: Path | None, generation: str) -> dict[str, Line]:
    """What interrupted runs told of a generation's images in a receipt, by id; the last word counts."""
    told: dict[str, Line] = {}
    if path is None or not path.exists():
        return told
    ours = False
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            line = _parsed(text)
            if line.get("kind") == "run":
                ours = line.get("generation") == generation
            elif ours and line.get("kind") == "file" and "id" in line:
                told[line["id"]] = line
    return told


def receipts_of(store: VectorStore) -> Path | None:
    """The directory of a store's own receipts, one a generation; None where the store has no directory."""
    return store.root / "reports" if isinstance(store, EdgeStore) else None


def tidy(store: VectorStore) -> None:
    """Remove the receipts of generations that are gone."""
    home = receipts_of(store)
    if home is not None and home.is_dir():
        kept = {info.name for info in (*store.generations(), *store.unfinished())}
        for path in home.glob("*.jsonl"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)


def _parsed(text: str) -> Line:
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}


def _cut_torn_line(path: Path) -> None:
    """Remove the part of a line that a killed run may have left at the end."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 4096)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)
