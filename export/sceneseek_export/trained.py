"""What training contributes to a bundle: a joint space and a head, found, or refused with what to do."""

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

# In the place of a head's directory: the alignment's own calibrated cosine.
COSINE = Path("cosine")
UNFITTED = "a default, fitted to no ratings"


@dataclass(frozen=True)
class Trained:
    """The alignment, the head that reads it, and whether the scores were learned from anything."""

    alignment: Alignment
    head: Head
    calibrated: bool = True

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
        return cls(loaded, _head(head, loaded))

    @classmethod
    def shipped(cls, pack: Pack) -> Trained:
        """What comes with sceneseek for a pack: its alignment, and its head where one was trained on it.

        Raises:
            ExportError: nothing comes with it.
        """
        head = shipped_alignment(pack).with_name("head")
        return cls.load(shipped_alignment(pack), head if head.is_dir() else None)

    @property
    def towers_read(self) -> set[str]:
        """Names of the towers that the alignment or the head reads."""
        return self.alignment.towers | set(self.head.towers)

    def check_weights(self, towers: Towers) -> None:
        """Refuse an alignment or a head that was trained with other weights of the same towers.

        Raises:
            ExportError: it was.
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
                        "export with the weights it was trained with, or train again with these",
                    )


def find_trained(pack: Pack, towers: Towers, alignment: Path | None, head: Path | None) -> Trained:
    """The alignment and the head for a pack.

    Args:
        pack: the recipe.
        towers: what it loaded.
        alignment: a directory; None takes what comes with sceneseek, or the towers' own space.
        head: a directory, or `COSINE`; None takes what comes with the alignment.

    Raises:
        ExportError: see `check_trained`; or the towers share no space.
        DataError: a directory does not hold what it should.
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
    """Say at once, before gigabytes are loaded, whether something must be trained first.

    Raises:
        ExportError: the pack's joint space is learned and none is given or comes with it; or it has towers that
            nothing but a trained head reads, and none is given.
    """
    check_space(pack, alignment)
    if pack.needs_head and head in (None, COSINE):
        beside = ", ".join((*pack.head_image_towers, *pack.head_text_towers))
        raise ExportError(
            f"the pack {pack.name!r} has towers for a head alone ({beside}), and no head comes with it",
            f"train one with `sceneseek train heads --pack {pack.name} --out heads ...`, then pass --head heads",
        )


def own_space(pack: Pack, towers: Towers) -> Alignment:
    """The joint space that two of a pack's towers were trained to share, with a curve fitted to no ratings.

    Raises:
        ExportError: their vectors differ in width, or nothing says how a cosine becomes a score.
    """
    space = pack.joint_space
    if space is None:
        raise ValueError(f"the joint space of the pack {pack.name!r} is learned")
    (image,) = (tower for tower in towers.images if tower.spec.name == space.image)
    (text,) = (tower for tower in towers.texts if tower.spec.name == space.text)
    if image.features != text.width:
        raise ExportError(
            f"{space.image!r} and {space.text!r} share no space: {image.features} numbers beside {text.width}",
            "name the two towers of one checkpoint in `joint_space`",
        )
    curve = text.curve if space.slope is None or space.intercept is None else (space.slope, space.intercept)
    if curve is None:
        raise ExportError(
            f"neither the pack {pack.name!r} nor its checkpoint says how a cosine becomes a score",
            "give `joint_space` a slope and an intercept",
        )
    own = Alignment.own(pack.name, (space.image, space.text), image.features, Calibration(*curve, source=UNFITTED))
    return replace(own, card={"towers": [asdict(tower) for tower in towers.provenance()]})


def shipped_alignment(pack: Pack) -> Path:
    """The directory of the alignment that comes with sceneseek for a pack.

    Raises:
        ExportError: none comes with it.
    """
    directory = Path(str(resources.files("sceneseek_export"))) / "weights" / pack.name / "alignment"
    if not directory.is_dir():
        raise ExportError(
            f"the joint space of the pack {pack.name!r} must be learned from captions, and none comes with sceneseek",
            f"train one with `sceneseek train alignment --pack {pack.name} --out alignment ...`, "
            "then pass --alignment alignment",
        )
    return directory


def _head(directory: Path | None, alignment: Alignment) -> Head:
    if directory is None:
        return CosineHead.of_calibration(alignment.calibration)
    return load_head(_default_of(directory))


def _default_of(directory: Path) -> Path:
    """The directory of the default head, if this holds several; else the directory itself."""
    summary = directory / "heads.json"
    if not summary.is_file():
        return directory
    try:
        return directory / str(json.loads(summary.read_text(encoding="utf-8"))["default"])
    except UNREADABLE as error:
        raise DataError(f"{summary} cannot be read ({error!r})", "write it with `sceneseek train heads`") from error


def find_pack_of(bundle: Path | None, pack_name: str) -> Pack:
    """The pack of that name or file; beside a bundle, the one that it was made of.

    Raises:
        InvalidRequest, BundleError, DataError: there is no such pack or bundle.
    """
    if bundle is None or pack_name.endswith(".toml"):  # a pack of the user's own is not known by the name in a bundle
        return find_pack(pack_name)
    return find_pack(Bundle.load(bundle).manifest.pack)


def check_space(pack: Pack, directory: Path | None) -> None:
    """Say at once, before towers are loaded, whether a joint space must be learned first.

    Raises:
        ExportError: it must.
    """
    if pack.joint_space is None and directory is None:
        shipped_alignment(pack)


def find_space(pack: Pack, towers: Towers, bundle: Path | None, directory: Path | None) -> Alignment:
    """The pack's joint space.

    A bundle holds its joint space inside its graphs, so the alignment that it was exported with is looked for
    and compared by its fingerprint.

    Args:
        pack: the recipe.
        towers: what it loaded.
        bundle: a bundle's directory, or None.
        directory: an alignment's directory; None takes the one that comes with the pack, or the towers' own space.

    Raises:
        DataError: the alignment is another pack's, or not the one in the bundle.
        ExportError: there is none.
    """
    if directory is None and pack.joint_space is not None:
        alignment = own_space(pack, towers)
    else:
        alignment = Alignment.load(directory or shipped_alignment(pack))
    if alignment.pack != pack.name:
        raise DataError(
            f"the alignment was trained for the pack {alignment.pack!r}, not for {pack.name!r}",
            "pass the one that was trained for it with --alignment",
        )
    if bundle is not None:
        check_exported_with(Bundle.load(bundle), alignment)
    return alignment


def check_exported_with(bundle: Bundle, alignment: Alignment) -> None:
    """Refuse another joint space than that inside a bundle.

    Raises:
        DataError: it is another.
    """
    fingerprint = str(bundle.manifest.alignment.get("fingerprint"))
    if fingerprint != alignment.fingerprint:
        raise DataError(
            f"{bundle.path} was exported with another alignment ({fingerprint[:12]}, "
            f"this one is {alignment.fingerprint[:12]})",
            "pass the one it was exported with by --alignment",
        )
