"""The index report: the outcome of a run for every file, for people and for programs.

An `IndexReport` contains the counts and is printed. A `ReportFile` lists every file, as JSON lines that are written as
soon as the outcome is durable:

    {"kind": "run", "generation": ..., "bundle": ..., "image": ..., "sources": [...], "resumed": ..., "started": ...}
    {"kind": "file", "outcome": ..., "source": 0, "path": ..., "id": ..., "sha256": ...}
    {"kind": "end", "generation": ..., "counts": {...}, "seconds": {...}}

An outcome is one of indexed, unchanged, touched, renamed and copied (both with `from`), removed, gone, skipped and
ignored (both with `reason` and `what`). `id` and `sha256` are included if known, `path_bytes` if the path is not
UTF-8. The last line of a run on a cluster also has the figures of its `nodes`. A run without a last line was killed or
failed. A run appends to an existing file, so read from the last line of kind `run`.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeVar

from sceneseek.errors import SourceError, one_line
from sceneseek.payload import path_fields, relative_path
from sceneseek.progress import duration
from sceneseek.store import VectorStore
from sceneseek.tables import first_few
from sceneseek_indexer.inventory import Known, Place, StoredMapping, place
from sceneseek_indexer.patterns import EXCLUDED, NO_DEFAULTS
from sceneseek_indexer.sync_plan import Plan
from sceneseek_indexer.walk import (
    LINKED_FOLDER,
    ImageFile,
    Listing,
    Skipped,
    count_default_exclusions,
    count_unsupported,
    in_words,
)

SHOWN = 50
Item = TypeVar("Item")


@dataclass
class IndexReport:
    """The outcome of a run, or the predicted outcome if it was a dry run.

    Attributes:
        generation: the live generation after the run.
        indexed: images that were encoded.
        unchanged: images that are the same as in the previous generation.
        touched: images with the same content but different times.
        renamed: images found at a different path, whose vectors were reused.
        copied: images whose content the index already had.
        removed: images removed from the index.
        gone: images kept in the index although their files are deleted.
        away: the folders of `gone` images that are empty or not mounted; these images are never removed.
        resumed: how many of all these an interrupted run had done.
        skipped: files that could not be used, with the reason.
        ignored: files that are not images by their names.
        unsupported: number of ignored pictures in unsupported formats, by extension.
        excluded: files and folders excluded by a pattern or by default.
        excluded_by_default: number of folders excluded by default, by name or `.nomedia`.
        linked_folders: paths of links to folders, which are not followed.
        duplicates: images of the index that are near-duplicates of another image.
        texts: encoded images in which text was found.
        described: images with new or changed metadata.
        fields: metadata fields, with their types.
        undescribed: paths in the metadata without an image.
        seconds: by stage; ``load`` and ``encode`` are summed over their threads, ``total`` is wall-clock time.
        nodes: of a run on a cluster, by node name: the number of ``images`` encoded, and the ``seconds`` this took.
        inspection: of a generation that was created empty: the number of points, and the recall of approximate against
            exact search.
        quality: with captions, the recall@5 (times 100) of the previous generation and of this one.
        planned: of a dry run, the outcome of each image that would change.
    """

    generation: str = ""
    indexed: int = 0
    unchanged: int = 0
    touched: int = 0
    renamed: int = 0
    copied: int = 0
    removed: int = 0
    gone: int = 0
    away: list[str] = field(default_factory=list)
    resumed: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    ignored: int = 0
    unsupported: dict[str, int] = field(default_factory=dict)
    excluded: int = 0
    excluded_by_default: dict[str, int] = field(default_factory=dict)
    linked_folders: list[str] = field(default_factory=list)
    duplicates: int = 0
    texts: int = 0
    described: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)
    undescribed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    nodes: dict[str, dict[str, float]] = field(default_factory=dict)
    inspection: dict[str, Any] | None = None
    quality: dict[str, Any] | None = None
    planned: list[dict[str, Any]] | None = None

    @property
    def usable(self) -> int:
        """The number of images of the listed folders that are in the index after the run."""
        return self.indexed + self.unchanged + self.touched + self.renamed + self.copied

    def add(self, outcome: str, count: int = 1) -> None:
        """Add to the count of an outcome."""
        setattr(self, outcome, getattr(self, outcome) + count)

    def ignore(self, entries: list[Skipped]) -> None:
        """Set the counts of the ignored entries of all listings."""
        linked = (entry for entry in entries if entry.reason == LINKED_FOLDER)
        self.linked_folders = [path_fields(entry.relative)["path"] for entry in linked]
        self.excluded = sum(entry.reason in EXCLUDED for entry in entries)
        self.ignored = len(entries) - self.excluded - len(self.linked_folders)
        self.unsupported = count_unsupported(entries)
        self.excluded_by_default = count_default_exclusions(entries)

    def count_plan(self, plan: Plan) -> None:
        """Set the counts and `planned` from a plan, as far as known without decoding."""
        self.indexed, self.unchanged = len(plan.encode), len(plan.unchanged)
        outcomes = Counter(reuse.outcome for reuse in plan.reused)
        self.touched, self.renamed, self.copied = outcomes["touched"], outcomes["renamed"], outcomes["copied"]
        self.removed, self.gone = len(plan.removed), len(plan.kept)
        self.count_away(plan)
        self.planned = [
            {"outcome": "indexed", "source": file.source, **path_fields(file.relative)} for file in plan.encode
        ]
        for reuse in plan.reused:
            file, origin = reuse.file, reuse.origin
            former = {"from": path_fields(origin.relative)["path"]} if reuse.outcome != "touched" else {}
            self.planned.append(
                {"outcome": reuse.outcome, "source": file.source, **path_fields(file.relative), **former}
            )
        self.planned += [
            {"outcome": "removed", "source": image.source, **path_fields(image.relative)} for image in plan.removed
        ]

    def count_away(self, plan: Plan) -> None:
        """Set the folders that are empty or not mounted."""
        self.away = sorted({image.relative.rpartition("/")[0] or "." for image in plan.away})

    def counts(self) -> dict[str, int]:
        """Return the number of images by outcome."""
        return {
            **{name: value for name, value in asdict(self).items() if isinstance(value, int)},
            "skipped": len(self.skipped),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; paths that are not UTF-8 are escaped."""
        document = asdict(self)
        document["skipped"] = [
            {**path_fields(s.relative), "source": s.source, "reason": s.reason, "what": one_line(s.what)}
            for s in self.skipped
        ]
        document["seconds"] = {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}
        if self.planned is None:
            del document["planned"]
        if not self.nodes:
            del document["nodes"]
        return document

    def lines(self) -> list[str]:
        """Return lines for the terminal."""
        counts = f"indexed {self.indexed:,}, unchanged {self.unchanged:,}, skipped {len(self.skipped):,}"
        sometimes = {
            "touched": self.touched,
            "renamed": self.renamed,
            "copied": self.copied,
            "removed": self.removed,
            "not images": self.ignored,
            "excluded": self.excluded,
            "near-duplicates": self.duplicates,
            "with text": self.texts,
            "metadata written": self.described,
        }
        counts += "".join(f", {outcome} {count:,}" for outcome, count in sometimes.items() if count)
        lines = [counts if self.planned is None else f"a run would have: {counts}"]
        lines += _first_lines(_planned, self.planned or [])
        lines += self._ignored_lines()
        if self.fields:
            fields = first_few([f"{one_line(name)} ({kind})" for name, kind in self.fields.items()], most=24)
            lines.append(f"metadata fields: {fields}")
        if self.undescribed:
            paths = one_line(first_few(self.undescribed))
            lines.append(f"no image at {len(self.undescribed):,} paths of the metadata: {paths}")
        if self.gone:
            lines.append(f"gone {self.gone:,}, deleted or excluded: pass --prune to remove them from the index")
        if self.away:
            lines.append(
                f"folders that are empty or not mounted, whose images stay: {one_line(first_few(self.away))}; "
                "pass --prune --yes to remove them"
            )
        if self.inspection:
            found = "checked {points:,} vectors; approximate search finds {recall:.1%} of what exact search finds"
            lines.append(found.format(**self.inspection))
        if self.quality:
            found = "recall@5 (x100) before {before:.1f}, now {after:.1f}, over {captions:,} captions"
            lines.append(found.format(**self.quality))
        if self.resumed:
            lines.append(f"resumed an interrupted run, which had done {self.resumed:,} of them")
        return [*lines, *self._skipped_lines(), *self._last_lines()]

    def _ignored_lines(self) -> list[str]:
        lines = []
        if self.unsupported:
            lines.append(f"{in_words(self.unsupported)}: not supported")
        if self.excluded_by_default:
            lines.append(f"excluded by default: {one_line(in_words(self.excluded_by_default))} (see {NO_DEFAULTS})")
        if self.linked_folders:
            paths = one_line(first_few(self.linked_folders))
            lines.append(f"links to folders, not followed: {paths}; index such a folder by its own path")
        return lines

    def _skipped_lines(self) -> list[str]:
        lines = []
        if len(self.skipped) > SHOWN:
            reasons = Counter(s.reason for s in self.skipped).most_common()
            lines.append("skipped by reason: " + ", ".join(f"{reason} {count:,}" for reason, count in reasons))
        return [*lines, *_first_lines(_skipped, self.skipped)]

    def _last_lines(self) -> list[str]:
        if self.planned is not None:
            return ["nothing was written"]
        took = f"took {duration(self.seconds.get('total', 0.0))}"
        if self.indexed:
            stages = ", ".join(f"{stage} {duration(s)}" for stage, s in self.seconds.items() if stage != "total")
            took += f"; over all threads: {stages}"
        return [took, f"generation {self.generation}"]


def _first_lines(line: Callable[[Item], str], items: list[Item]) -> list[str]:
    """A line for each of the first items, and one for the number of the others."""
    others = len(items) - SHOWN
    more = [f"  ... and {others:,} more; --json lists them all"] if others > 0 else []
    return [*map(line, items[:SHOWN]), *more]


def _planned(entry: dict[str, Any]) -> str:
    origin = f" (from {one_line(entry['from'])})" if "from" in entry else ""
    return f"  {entry['outcome']} {one_line(entry['path'])}{origin}"


def _skipped(entry: Skipped) -> str:
    return f"  skipped {one_line(path_fields(entry.relative)['path'])}: {one_line(entry.what)}"


Line = dict[str, Any]


class ReportFile:
    """The report file, opened for appending; without a path, nothing is written.

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

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, lines: Iterable[Line]) -> None:
        """Append lines and flush them, so that other processes can read them."""
        if self._file is not None:
            try:
                self._file.writelines(f"{json.dumps(line)}\n" for line in lines)
                self._file.flush()
            except OSError as error:
                what = f"the report {self._file.name} cannot be written ({error.strerror})"
                raise SourceError(what, "free space on its disk") from error


def file_line(
    outcome: str, image: ImageFile | Known, identity: str = "", sha256: str = "", origin: Known | None = None
) -> Line:
    """Return the line of an image's outcome."""
    line: Line = {"kind": "file", "outcome": outcome, "source": image.source, **path_fields(image.relative)}
    if isinstance(image, Known):
        identity, sha256 = image.id, image.sha256
    line |= {name: value for name, value in (("id", identity), ("sha256", sha256)) if value}
    if origin is not None:
        line |= {"from": path_fields(origin.relative)["path"], "from_source": origin.source}
    return line


def skipped_line(outcome: str, entry: Skipped) -> Line:
    """Return the line of a file that is not indexed."""
    return {
        "kind": "file",
        "outcome": outcome,
        "source": entry.source,
        **path_fields(entry.relative),
        "reason": entry.reason,
        "what": one_line(entry.what),
    }


def earlier_lines(path: Path | None, generation: str) -> Iterator[tuple[str, Line]]:
    """Yield ids and lines that interrupted runs of a generation wrote to a report; the last line of an id is valid."""
    if path is None or not path.exists():
        return
    matches = False
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            line = _parsed(text)
            if line.get("kind") == "run":
                matches = line.get("generation") == generation
            elif matches and line.get("kind") == "file" and "id" in line:
                yield line["id"], line


def remove_old_reports(store: VectorStore) -> None:
    """Remove the reports of deleted generations."""
    directory = store.report_directory()
    if directory is not None and directory.is_dir():
        existing = {info.name for info in (*store.generations(), *store.unfinished())}
        for path in directory.glob("*.jsonl"):
            if path.stem not in existing:
                path.unlink(missing_ok=True)


def _parsed(text: str) -> Line:
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}


def _cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line left by a killed run."""
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


_WRITTEN = {"indexed", "touched", "renamed", "copied"}


def opening_lines(
    report: IndexReport,
    plan: Plan,
    listings: Collection[Listing],
    earlier: Mapping[str, Line] | StoredMapping[str, Line],
    present: Callable[[Place], bool],
) -> Iterator[Line]:
    """Update the report with the outcomes that are known before anything is written, and return their lines.

    `earlier` are the lines of an interrupted run of the same generation, by id. `present` returns whether the
    generation contains, or will contain, an image at a place.
    """

    def done() -> Iterator[Line]:
        """The lines of the outcomes of an interrupted run."""
        yield from (_resumed(image, earlier.get(image.id)) for image in plan.resumed)
        for line in earlier.values():
            if line["outcome"] == "removed" and not present((line["source"], relative_path(line))):
                yield line

    report.count_away(plan)
    report.unchanged, report.gone = len(plan.unchanged) - len(plan.resumed), len(plan.kept)
    for line in done():
        report.resumed += 1
        report.add(line["outcome"])
    unchanged = (file_line("unchanged", image) for image in plan.unchanged if not image.fresh)
    return itertools.chain(unchanged, done(), _absent_lines(plan, listings))


def _resumed(image: Known, line: Line | None) -> Line:
    """The line of an image that an interrupted run has written."""
    if line is None or line["outcome"] not in _WRITTEN:
        # The run was killed after writing the batch and before reporting it.
        return file_line("indexed", image)
    return line


def _absent_lines(plan: Plan, listings: Collection[Listing]) -> Iterator[Line]:
    """The lines of gone images that are kept, and of files that are not indexed."""
    not_indexed = not_indexed_by_place(listings)
    gone = {place(image) for image in plan.gone if place(image) in not_indexed}
    for image in plan.kept:
        entry = why_not_indexed(not_indexed, place(image))
        reason = {"reason": entry.reason, "what": entry.what} if entry is not None else {}
        yield {**file_line("gone", image), **reason}
    for listing in listings:
        yield from (skipped_line("skipped", entry) for entry in listing.skipped if place(entry) not in gone)
        yield from (skipped_line("ignored", entry) for entry in listing.ignored if place(entry) not in gone)


def not_indexed_by_place(listings: Iterable[Listing], skipped: Iterable[Skipped] = ()) -> dict[Place, Skipped]:
    """Return the entries of listings, and further skipped files, that are not indexed."""
    every = (entry for listing in listings for entry in (*listing.skipped, *listing.ignored))
    return {place(entry): entry for entry in (*every, *skipped)}


def why_not_indexed(not_indexed: Mapping[Place, Skipped], at: Place) -> Skipped | None:
    """Return the entry that explains why a file is not indexed: its own or its nearest folder's; None if unknown."""
    source, relative = at
    while (entry := not_indexed.get((source, relative))) is None and "/" in relative:
        relative = relative.rpartition("/")[0]
    return entry
