"""The options of an indexing run, read once at the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sceneseek.containers import MAX_PIXELS
from sceneseek.runtime import Device
from sceneseek.sources import Root
from sceneseek_indexer.patterns import Patterns
from sceneseek_indexer.photo_facts import FIELDS


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The options of a run.

    Attributes:
        device: the device that runs the image graph.
        workers: number of loader threads and of encoder threads, 0 for one per core; on a cluster, number of processes
            with one core or GPU each, 0 for all.
        batch: images per run of the graph; 0 is 4 on a CPU and 16 on a GPU.
        max_pixels: pictures that need more pixels decoded are skipped.
        max_skipped: share of the image files that may be skipped before the run fails; 100 files are always allowed.
        patterns: the files to index.
        prune: remove images whose files are deleted.
        forget: folders whose images are removed from the index.
        report: a file for the outcome of each image; None for the store's default.
        metadata: of the images: a file, or ``sidecars`` (see `sidecar`); None keeps the metadata of the index.
        exif: the fields to read from the pictures' EXIF blocks, see `photo_facts`.
        ocr: read the text in pictures, see `ocr`; None for the setting of the live generation.
        ocr_model: a recognition model instead of the package's own.
        remove_any: do not limit how many images are removed, even from folders that are empty or not mounted, or how
            many lose their metadata.
        max_removed: largest share of a folder's images that `prune` may remove (20 are always allowed), and of the
            images with metadata that may lose it by `metadata` (two are always allowed).
        rebuild: encode every image again.
        captions: a file of captions, to compare the new generation with the live one before it is published.
        max_loss: largest accepted loss of recall@5, in points (times 100).
        wait: wait for another run that writes the same index, instead of failing at once.
        on: where images are loaded and encoded: ``local``, ``ray`` (the Ray cluster that this machine is a node of) or
            ``ray://HOST:PORT``.
    """

    device: Device = "auto"
    workers: int = 0
    batch: int = 0
    max_pixels: int = MAX_PIXELS
    max_skipped: float = 0.5
    patterns: Patterns = field(default_factory=Patterns)
    prune: bool = False
    forget: tuple[Root, ...] = ()
    report: Path | None = None
    metadata: str | None = None
    exif: frozenset[str] = frozenset(FIELDS)
    ocr: bool | None = None
    ocr_model: Path | None = None
    remove_any: bool = False
    max_removed: float = 0.25
    rebuild: bool = False
    captions: Path | None = None
    max_loss: float = 2.0
    wait: bool = True
    on: str = "local"
