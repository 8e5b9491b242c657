"""How an indexing run works, chosen once, at the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sceneseek.containers import MAX_PIXELS
from sceneseek.runtime import Device
from sceneseek_indexer.photo_facts import FIELDS
from sceneseek_indexer.walk import Patterns


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a run works.

    Attributes:
        device: where the image graph runs.
        workers: threads that load and threads that encode; 0 is one a core.
        batch: images in one run of the graph.
        max_pixels: pictures that need more pixels decoded are skipped.
        max_skipped: share of the image files that may be skipped before the run fails; up to 100 always may.
        patterns: which files are wanted.
        prune: remove images whose files are gone.
        forget: folders whose images are to leave the index.
        report: a file for the outcome of each file; None is the store's own place.
        metadata: of the images: a file, or ``sidecars`` (see `sidecar`); None leaves what the index knows as it is.
        exif: which fields to read from the pictures' EXIF blocks, see `photo_facts`.
        max_removed: share of the images with metadata that `metadata` may leave without; two always may.
        rebuild: encode everything anew, whatever the live generation holds.
        captions: of the images, to compare the new generation with the live one before it takes its place.
        max_loss: how many points of recall@5 (times 100) it may lose.
        wait: for another run that writes the same index; else fail at once.
    """

    device: Device = "auto"
    workers: int = 0
    batch: int = 16
    max_pixels: int = MAX_PIXELS
    max_skipped: float = 0.5
    patterns: Patterns = field(default_factory=Patterns)
    prune: bool = False
    forget: tuple[Path, ...] = ()
    report: Path | None = None
    metadata: str | None = None
    exif: frozenset[str] = frozenset(FIELDS)
    max_removed: float = 0.25
    rebuild: bool = False
    captions: Path | None = None
    max_loss: float = 2.0
    wait: bool = True
