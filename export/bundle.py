"""Export itself: a pack, an alignment and a head become a verified bundle, or nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from export.compose import image_graph, score_graph, text_graph
from export.towers import load_image_tower, load_text_tower
from export.verify import Sources, measure_drift
from sceneseek.alignment import Alignment
from sceneseek.bundle import Bundle
from sceneseek.errors import DataError, ExportError
from sceneseek.files import UNREADABLE, directory_in_place, sha256_of
from sceneseek.heads import CosineHead, Head, load_head
from sceneseek.manifest import (
    IMAGE_GRAPH,
    MANIFEST,
    SCORE_GRAPH,
    TEXT_GRAPH,
    TOKENIZER,
    Dimensions,
    Manifest,
    TextInput,
)
from sceneseek.manifest import Head as HeadEntry
from sceneseek.packs import Pack


@dataclass(frozen=True)
class Trained:
    """What training contributes to a bundle: the alignment, and the head that reads it."""

    alignment: Alignment
    head: Head

    @classmethod
    def load(cls, alignment: Path, head: Path | None = None) -> Trained:
        """The alignment of a directory, with a head of another or with its own calibrated cosine.

        Args:
            alignment: written by `sceneseek train alignment`.
            head: one head, or what `sceneseek train heads` wrote: then the default among them.

        Raises:
            DataError: a directory does not hold what it should.
        """
        loaded = Alignment.load(alignment)
        if head is None:
            return cls(loaded, CosineHead.of_calibration(loaded.calibration))
        return cls(loaded, load_head(_default_of(head)))

    @classmethod
    def shipped(cls, pack: Pack) -> Trained:
        """What comes with sceneseek for a pack: its alignment, and its head where one was trained on it.

        Raises:
            ExportError: nothing comes with it.
        """
        head = shipped_alignment(pack).with_name("head")
        return cls.load(shipped_alignment(pack), head if head.is_dir() else None)


def _default_of(directory: Path) -> Path:
    """The directory of the default head, if this holds several; else the directory itself."""
    summary = directory / "heads.json"
    if not summary.is_file():
        return directory
    try:
        return directory / str(json.loads(summary.read_text(encoding="utf-8"))["default"])
    except UNREADABLE as error:
        raise DataError(f"{summary} cannot be read ({error!r})", "write it with `sceneseek train heads`") from error


def shipped_alignment(pack: Pack) -> Path:
    """The directory of the alignment that comes with sceneseek for a pack.

    Raises:
        ExportError: none comes with it.
    """
    directory = Path(str(resources.files("export"))) / "weights" / pack.name / "alignment"
    if not directory.is_dir():
        raise ExportError(
            f"no alignment comes with the pack {pack.name!r}",
            "train one with `sceneseek train alignment`, then pass it with --alignment",
        )
    return directory


def export_bundle(pack: Pack, trained: Trained, out: Path, verify_on: Path | None = None) -> Bundle:
    """Compose, write, verify and only then show a bundle.

    Args:
        pack: the recipe.
        trained: alignment and head; they must fit the pack's towers.
        out: the bundle's directory; replaced if it is a bundle already.
        verify_on: a folder of images for the check beside the drawn ones.

    Raises:
        ExportError: the parts do not fit, a graph drifts from its source, or `out` is in the way.
    """
    _check_fit(pack, trained)
    if out.exists() and not (out / MANIFEST).is_file() and any(out.iterdir()):
        raise ExportError(f"{out} holds something that is not a bundle", "choose another --out")
    image_towers = [load_image_tower(spec) for spec in pack.image_towers]
    text_tower = load_text_tower(pack.text_tower)
    sources = Sources(image_towers, text_tower, trained.alignment, trained.head)
    with directory_in_place(out) as beside:
        models = {
            IMAGE_GRAPH: image_graph(image_towers, pack.image_inputs, trained.alignment, trained.head),
            TEXT_GRAPH: text_graph(text_tower, trained.alignment, trained.head),
            SCORE_GRAPH: score_graph(trained.head, trained.alignment.joint),
        }
        for name, model in models.items():
            (beside / name).write_bytes(model.SerializeToString(deterministic=True))
        shutil.copyfile(text_tower.tokenizer, beside / TOKENIZER)
        manifest = Manifest.build(
            pack=pack.name,
            towers=(*(tower.provenance() for tower in image_towers), text_tower.provenance()),
            dimensions=Dimensions(
                joint=trained.alignment.joint,
                image_head=trained.head.image_width,
                text_head=trained.head.text_width,
            ),
            image_inputs=pack.image_inputs,
            text_input=TextInput(tokenizer=TOKENIZER, max_tokens=pack.max_tokens, pad_id=text_tower.pad_id),
            head=HeadEntry(kind=trained.head.kind, calibrated=True, validation=dict(trained.head.validation)),
            alignment={"fingerprint": trained.alignment.fingerprint, **trained.alignment.card},
            precision="fp32",
            files={name: sha256_of(beside / name) for name in (*models, TOKENIZER)},
            drift={},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        manifest.write(beside / MANIFEST)
        drift = measure_drift(Bundle.load(beside), sources, verify_on)
        manifest.model_copy(update={"drift": drift}).write(beside / MANIFEST)
    return Bundle.load(out)


def _check_fit(pack: Pack, trained: Trained) -> None:
    alignment, head = trained.alignment, trained.head
    towers = {spec.name for spec in pack.image_towers}
    used = {tower for block in alignment.blocks for tower in block.towers} | set(head.towers)
    if alignment.pack != pack.name or not used <= towers:
        raise ExportError(
            f"the alignment was trained for the pack {alignment.pack!r}, not for {pack.name!r}",
            "pass the one that was trained for it with --alignment",
        )
    fits_any = not head.alignment and head.reads == {"similarity"}
    if not fits_any and head.alignment != alignment.fingerprint:
        raise ExportError(
            f"the head was trained on another joint space ({head.alignment[:12] or 'it does not say which'}, "
            f"this alignment is {alignment.fingerprint[:12]})",
            "train the head on this alignment with `sceneseek train heads`",
        )
    if "spread" in head.reads and alignment.typical is None:
        raise ExportError("the head reads how typical images lie, which the alignment does not say", "train it again")
