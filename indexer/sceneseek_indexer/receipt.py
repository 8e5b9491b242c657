"""What an indexing run did, for people and for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from sceneseek.errors import one_line
from sceneseek.payload import path_fields
from sceneseek.progress import duration
from sceneseek.tables import first_few
from sceneseek_indexer.plan import Plan
from sceneseek_indexer.walk import Skipped

SHOWN = 50


@dataclass
class Receipt:
    """The outcome of a run, or of a dry one what it would be.

    Attributes:
        generation: the live one after the run.
        indexed: images that were encoded.
        unchanged: images taken over from the generation before.
        touched: images whose files changed in their time only.
        renamed: images found at another place; they kept their vectors.
        copied: images whose content the index held already.
        removed: images that left the index.
        gone: images whose files are gone and that were kept all the same.
        resumed: how many of all these an interrupted run had done before.
        skipped: files that could not be used, each with its reason.
        ignored: files that are not images by their names.
        excluded: files and folders that a pattern excludes.
        duplicates: images of the index that are near-duplicates of another one.
        described: images whose metadata is new or other than before.
        undescribed: paths in the metadata at which there is no image.
        seconds: by stage; ``load`` and ``encode`` are summed over their threads, ``total`` is by the clock.
        inspection: of a generation that was built anew: points looked at, recall of approximate against exact search.
        quality: where captions were given: recall@5 (times 100) of the generation before and of this one.
        planned: of a dry run, what would happen to each image that would not stay as it is.
    """

    generation: str = ""
    indexed: int = 0
    unchanged: int = 0
    touched: int = 0
    renamed: int = 0
    copied: int = 0
    removed: int = 0
    gone: int = 0
    resumed: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    ignored: int = 0
    excluded: int = 0
    duplicates: int = 0
    described: int = 0
    undescribed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    inspection: dict[str, Any] | None = None
    quality: dict[str, Any] | None = None
    planned: list[dict[str, Any]] | None = None

    @property
    def usable(self) -> int:
        """Images of the folders that are in the index after the run."""
        return self.indexed + self.unchanged + self.touched + self.renamed + self.copied

    def add(self, fate: str, count: int = 1) -> None:
        """Count images that met a fate."""
        setattr(self, fate, getattr(self, fate) + count)

    def ignore(self, entries: list[Skipped]) -> None:
        """Count what a listing ignores."""
        excluded = sum(1 for entry in entries if entry.reason == "excluded")
        self.excluded += excluded
        self.ignored += len(entries) - excluded

    def foresee(self, plan: Plan) -> None:
        """Count what a plan would do, as far as can be known without decoding."""
        self.indexed, self.unchanged = len(plan.encode), len(plan.unchanged)
        fates = Counter(takeover.fate for takeover in plan.takeovers)
        self.touched, self.renamed, self.copied = fates["touched"], fates["renamed"], fates["copied"]
        self.removed, self.gone = len(plan.removed), len(plan.gone) - len(plan.removed)
        self.planned = [
            {"fate": "indexed", "source": file.source, **path_fields(file.relative)} for file in plan.encode
        ]
        for takeover in plan.takeovers:
            file, origin = takeover.file, takeover.origin
            came = {"from": path_fields(origin.relative)["path"]} if takeover.fate != "touched" else {}
            self.planned.append({"fate": takeover.fate, "source": file.source, **path_fields(file.relative), **came})
        self.planned += [
            {"fate": "removed", "source": image.source, **path_fields(image.relative)} for image in plan.removed
        ]

    def counts(self) -> dict[str, int]:
        """How many images met each fate."""
        return {
            **{name: value for name, value in asdict(self).items() if isinstance(value, int)},
            "skipped": len(self.skipped),
        }

    def to_json(self) -> dict[str, Any]:
        """As JSON values; paths that are not UTF-8 are escaped."""
        document = asdict(self)
        document["skipped"] = [
            {**path_fields(s.relative), "source": s.source, "reason": s.reason, "what": one_line(s.what)}
            for s in self.skipped
        ]
        document["seconds"] = {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}
        if self.planned is None:
            del document["planned"]
        return document

    def lines(self) -> list[str]:
        """As a person reads it."""
        counts = f"indexed {self.indexed:,}, unchanged {self.unchanged:,}, skipped {len(self.skipped):,}"
        sometimes = {
            "touched": self.touched,
            "renamed": self.renamed,
            "copied": self.copied,
            "removed": self.removed,
            "not images": self.ignored,
            "excluded": self.excluded,
            "near-duplicates": self.duplicates,
            "metadata written": self.described,
        }
        counts += "".join(f", {fate} {count:,}" for fate, count in sometimes.items() if count)
        lines = [counts if self.planned is None else f"a run would have: {counts}"]
        lines += [_planned(entry) for entry in (self.planned or [])[:SHOWN]]
        if self.planned and len(self.planned) > SHOWN:
            lines.append(f"  ... and {len(self.planned) - SHOWN:,} more; --json lists them all")
        if self.undescribed:
            paths = one_line(first_few(self.undescribed))
            lines.append(f"no image at {len(self.undescribed):,} paths of the metadata: {paths}")
        if self.gone:
            lines.append(f"gone {self.gone:,}: pass --prune to remove them from the index")
        if self.inspection:
            found = "checked {points:,} vectors; approximate search finds {recall:.1%} of what exact search finds"
            lines.append(found.format(**self.inspection))
        if self.quality:
            found = "recall@5 (x100) before {before:.1f}, now {after:.1f}, over {captions:,} captions"
            lines.append(found.format(**self.quality))
        if self.resumed:
            lines.append(f"went on with an interrupted run, which had done {self.resumed:,} of them")
        return [*lines, *self._skipped_lines(), *self._last_lines()]

    def _skipped_lines(self) -> list[str]:
        lines = []
        if len(self.skipped) > SHOWN:
            reasons = Counter(s.reason for s in self.skipped).most_common()
            lines.append("skipped by reason: " + ", ".join(f"{reason} {count:,}" for reason, count in reasons))
        lines += [
            f"  skipped {one_line(path_fields(s.relative)['path'])}: {one_line(s.what)}" for s in self.skipped[:SHOWN]
        ]
        if len(self.skipped) > SHOWN:
            lines.append(f"  ... and {len(self.skipped) - SHOWN:,} more; --json lists them all")
        return lines

    def _last_lines(self) -> list[str]:
        if self.planned is not None:
            return ["nothing was written"]
        took = f"took {duration(self.seconds.get('total', 0.0))}"
        if self.indexed:
            stages = ", ".join(f"{stage} {duration(s)}" for stage, s in self.seconds.items() if stage != "total")
            took += f"; over all threads: {stages}"
        return [took, f"generation {self.generation}"]


def _planned(entry: dict[str, Any]) -> str:
    came = f" (from {one_line(entry['from'])})" if "from" in entry else ""
    return f"  {entry['fate']} {one_line(entry['path'])}{came}"
