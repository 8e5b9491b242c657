"""What an indexing run did, for people and for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from indexer.walk import Skipped
from sceneseek.errors import one_line
from sceneseek.payload import path_fields
from sceneseek.progress import duration
from sceneseek.tables import first_few

SHOWN = 50


@dataclass
class Receipt:
    """The outcome of a run.

    Attributes:
        generation: the live one after the run.
        indexed: images encoded in this run.
        unchanged: images taken over from the generation before.
        removed: images whose files are gone.
        skipped: files that could not be used, each with its reason.
        ignored: files that are not images by their names.
        duplicates: images of the index that are near-duplicates of another one.
        described: images whose metadata is new or other than before.
        undescribed: paths in the metadata at which there is no image.
        seconds: by stage; ``load`` and ``encode`` are summed over their threads, ``total`` is by the clock.
    """

    generation: str = ""
    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    ignored: int = 0
    duplicates: int = 0
    described: int = 0
    undescribed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; paths that are not UTF-8 are escaped."""
        document = asdict(self)
        document["skipped"] = [
            {**path_fields(s.relative), "reason": s.reason, "what": one_line(s.what)} for s in self.skipped
        ]
        document["seconds"] = {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}
        return document

    def lines(self) -> list[str]:
        """As a person reads it."""
        counts = f"indexed {self.indexed:,}, unchanged {self.unchanged:,}, skipped {len(self.skipped):,}"
        if self.removed:
            counts += f", removed {self.removed:,}"
        if self.ignored:
            counts += f", not images {self.ignored:,}"
        if self.duplicates:
            counts += f", near-duplicates {self.duplicates:,}"
        if self.described:
            counts += f", metadata written {self.described:,}"
        lines = [counts]
        if self.undescribed:
            lines.append(
                f"no image at {len(self.undescribed):,} paths of the metadata: {one_line(first_few(self.undescribed))}"
            )
        if len(self.skipped) > SHOWN:
            reasons = Counter(s.reason for s in self.skipped).most_common()
            lines.append("skipped by reason: " + ", ".join(f"{reason} {count:,}" for reason, count in reasons))
        lines += [
            f"  skipped {one_line(path_fields(s.relative)['path'])}: {one_line(s.what)}" for s in self.skipped[:SHOWN]
        ]
        if len(self.skipped) > SHOWN:
            lines.append(f"  ... and {len(self.skipped) - SHOWN:,} more; --json lists them all")
        took = f"took {duration(self.seconds.get('total', 0.0))}"
        if self.indexed:
            stages = ", ".join(f"{stage} {duration(s)}" for stage, s in self.seconds.items() if stage != "total")
            took += f"; over all threads: {stages}"
        lines.append(took)
        lines.append(f"generation {self.generation}")
        return lines
