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
        workers: number of loader threads and of encoder threads, 0 is one per core; on a cluster of processes, each
            with one core or one GPU, 0 is as many as it has.
        batch: images in one run of the graph; 0 is 4 on a CPU and 16 on a GPU.
        max_pixels: pictures that need more pixels decoded are skipped.
        max_skipped: share of the image files that may be skipped before the run fails; up to 100 always may.
        patterns: the files to index.
        prune: remove images whose files are deleted.
        forget: folders whose images are removed from the index.
        report: a file for the outcome of each image; None is the store's default.
        metadata: of the images: a file, or ``sidecars`` (see `sidecar`); None leaves what the index knows as it is.
        exif: which fields to read from the pictures' EXIF blocks, see `photo_facts`.
        ocr: read the text in pictures, see `ocr`; None does as the live generation had it.
        ocr_model: a recognition model in place of the package's own.
        remove_any: remove any number of images, also those of folders that are empty or not mounted, and of metadata.
        max_removed: largest share of a folder's images that `prune` may remove (20 always may be), and of the images
            with metadata that `metadata` may leave without (two always may be).
        rebuild: encode every image again.
        captions: a file of captions, to compare the new generation with the live one before it is published.
        max_loss: how many points of recall@5 (times 100) it may lose.
        wait: wait for another run that writes the same index; else fail at once.
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
