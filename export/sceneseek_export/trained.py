"""Finds the trained parts of a bundle, a joint space and a head, or raises an error that says how to train them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path

from sceneseek.bundle import Bundle
from sceneseek.errors import DataError, ExportError
from sceneseek.files import UNREADABLE
from sceneseek_export.alignment import Alignment
from sceneseek_export.curves import Calibration
from sceneseek_export.heads import CosineHead, Head, load_head
from sceneseek_export.packs import Pack, find_pack
from sceneseek_export.towers import Towers

# Instead of a head's directory: the alignment's own calibrated cosine.
COSINE = Path("cosine")
UNFITTED = "a default, fitted to no ratings"


@dataclass(frozen=True)
class Trained:
    """The alignment, the head that reads it, and whether its scores are calibrated."""

    alignment: Alignment
    head: Head
    calibrated: bool = True

    @classmethod
    def load(cls, alignment: Path, head: Path | None = None) -> Trained:
        """Load an alignment and a head, or the alignment's own calibrated cosine.

        Args:
            alignment: directory written by `sceneseek train alignment`.
            head: directory of one head, or the output of `sceneseek train heads`, of which the default head is loaded;
                None for the calibrated cosine.

        Raises:
            DataError: a directory does not contain an alignment or a head.
        """
        loaded = Alignment.load(alignment)
        return cls(loaded, _head(head, loaded))

    @classmethod
    def shipped(cls, pack: Pack) -> Trained:
        """Load the alignment of a pack that is part of sceneseek, and its head if there is one.

        Raises:
            ExportError: sceneseek has no alignment for the pack.
        """
        head = shipped_alignment(pack).with_name("head")
        return cls.load(shipped_alignment(pack), head if head.is_dir() else None)

    @property
    def towers_read(self) -> set[str]:
        """Names of the towers that the alignment or the head reads."""
        return self.alignment.towers | set(self.head.towers)

    def check_weights(self, towers: Towers) -> None:
        """Check that the alignment and the head were trained with the weights of these towers.

        Raises:
            ExportError: they were trained with other weights.
        """
        ours = {tower.name: tower.sha256 for tower in towers.provenance()}
        for what, trained_with in (
            ("alignment", self.alignment.card.get("towers", ())),
            ("head", self.head.validation.get("towers", ())),
        ):
            for name, sha256 in ((str(tower["name"]), str(tower["sha256"])) for tower in trained_with):
                if ours.get(name, sha256) != sha256:
                    raise ExportError(
                        f"the {what} was trained with other weights of {name!r} "
                        f"({sha256[:12]}, these are {ours[name][:12]})",
                        "export with the weights that it was trained with, or train it again with these",
                    )


def find_trained(pack: Pack, towers: Towers, alignment: Path | None, head: Path | None) -> Trained:
    """The alignment and the head for a pack.

    Args:
        pack: the recipe.
        towers: the loaded towers of the pack.
        alignment: a directory; defaults to the pack's alignment in sceneseek, or to the towers' own space.
        head: a directory, or `COSINE`; defaults to the head that belongs to the alignment.

    Raises:
        ExportError: see `check_trained`; or the towers share no space.
        DataError: a directory does not contain an alignment or a head.
    """
    check_trained(pack, alignment, head)
    if pack.joint_space is not None and alignment is None:
        own = own_space(pack, towers)
        fits = None if head in (None, COSINE) else head
        return Trained(own, _head(fits, own), calibrated=fits is not None)
    if alignment is None and head is None:
        return Trained.shipped(pack)
    return Trained.load(alignment or shipped_alignment(pack), None if head == COSINE else head)


def check_trained(pack: Pack, alignment: Path | None, head: Path | None) -> None:
    """Check, before gigabytes are loaded, that nothing must be trained first.

    Raises:
        ExportError: the pack's joint space must be learned, and there is no alignment; or the pack has towers that only
            a trained head reads, and none is given.
    """
    check_space(pack, alignment)
    if pack.needs_head and head in (None, COSINE):
        names = ", ".join((*pack.head_image_towers, *pack.head_text_towers))
        raise ExportError(
            f"the pack {pack.name!r} has towers that only a head reads ({names}), and there is no trained head",
            f"train one with `sceneseek train heads --pack {pack.name} --out heads ...`, then pass --head heads",
        )


def own_space(pack: Pack, towers: Towers) -> Alignment:
    """The joint space that two of a pack's towers were trained to share, with an uncalibrated curve.

    Raises:
        ExportError: their vectors differ in width, or neither pack nor checkpoint defines the curve.
    """
    space = pack.joint_space
    if space is None:
        raise ValueError(f"the joint space of the pack {pack.name!r} is learned")
    (image,) = (tower for tower in towers.images if tower.spec.name == space.image)
    (text,) = (tower for tower in towers.texts if tower.spec.name == space.text)
    if image.features != text.width:
        raise ExportError(
            f"{space.image!r} and {space.text!r} share no space: their widths are {image.features} and {text.width}",
            "name the two towers of one checkpoint in `joint_space`",
        )
    curve = text.curve if space.slope is None or space.intercept is None else (space.slope, space.intercept)
    if curve is None:
        raise ExportError(
            f"neither the pack {pack.name!r} nor its checkpoint defines a curve from cosine to score",
            "add a slope and an intercept to `joint_space`",
        )
    own = Alignment.own(pack.name, (space.image, space.text), image.features, Calibration(*curve, source=UNFITTED))
    return replace(own, card={"towers": [asdict(tower) for tower in towers.provenance()]})


def shipped_alignment(pack: Pack) -> Path:
    """The directory of a pack's alignment that is part of sceneseek.

    Raises:
        ExportError: there is none.
    """
    directory = Path(str(resources.files("sceneseek_export"))) / "weights" / pack.name / "alignment"
    if not directory.is_dir():
        raise ExportError(
            f"the joint space of the pack {pack.name!r} must be learned from captions, and sceneseek has none for it",
            f"train one with `sceneseek train alignment --pack {pack.name} --out alignment ...`, "
            "then pass --alignment alignment",
        )
    return directory


def _head(directory: Path | None, alignment: Alignment) -> Head:
    if directory is None:
        return CosineHead.of_calibration(alignment.calibration)
    return load_head(_default_of(directory))


def _default_of(directory: Path) -> Path:
    """The directory of the default head if this contains several heads; else the directory itself."""
    summary = directory / "heads.json"
    if not summary.is_file():
        return directory
    try:
        return directory / str(json.loads(summary.read_text(encoding="utf-8"))["default"])
    except UNREADABLE as error:
        raise DataError(f"{summary} cannot be read ({error!r})", "write it with `sceneseek train heads`") from error


def find_pack_of(bundle: Path | None, pack_name: str) -> Pack:
    """The pack of a bundle, if one is given; else the pack of that name or file.

    Raises:
        InvalidRequest, BundleError, DataError: there is no such pack or bundle.
    """
    if bundle is None or pack_name.endswith(".toml"):  # the user's own pack cannot be found by the name in a bundle
        return find_pack(pack_name)
    return find_pack(Bundle.load(bundle).manifest.pack)


def check_space(pack: Pack, directory: Path | None) -> None:
    """Check, before towers are loaded, that no joint space must be learned first.

    Raises:
        ExportError: the pack's joint space must be learned, and there is no alignment.
    """
    if pack.joint_space is None and directory is None:
        shipped_alignment(pack)


def find_space(pack: Pack, towers: Towers, bundle: Path | None, directory: Path | None) -> Alignment:
    """The pack's joint space.

    A bundle contains its joint space only in its graphs, so the alignment is identified by its fingerprint.

    Args:
        pack: the recipe.
        towers: the loaded towers of the pack.
        bundle: directory of a bundle that must have been exported with the alignment; optional.
        directory: an alignment's directory; defaults to the pack's alignment in sceneseek, or to the towers' own space.

    Raises:
        DataError: the alignment belongs to another pack, or the bundle was exported with another one.
        ExportError: there is none.
    """
    if directory is None and pack.joint_space is not None:
        alignment = own_space(pack, towers)
    else:
        alignment = Alignment.load(directory or shipped_alignment(pack))
    if alignment.pack != pack.name:
        raise DataError(
            f"the alignment was trained for the pack {alignment.pack!r}, not for {pack.name!r}",
            "pass this pack's alignment with --alignment",
        )
    if bundle is not None:
        check_exported_with(Bundle.load(bundle), alignment)
    return alignment


def check_exported_with(bundle: Bundle, alignment: Alignment) -> None:
    """Check that a bundle was exported with this alignment.

    Raises:
        DataError: it was exported with another.
    """
    fingerprint = str(bundle.manifest.alignment.get("fingerprint"))
    if fingerprint != alignment.fingerprint:
        raise DataError(
            f"{bundle.path} was exported with another alignment ({fingerprint[:12]}, "
            f"this one is {alignment.fingerprint[:12]})",
            "pass the alignment that the bundle was exported with, with --alignment",
        )
