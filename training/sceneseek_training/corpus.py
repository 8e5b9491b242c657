"""Images with their captions, and the files that an alignment is trained on.

`read_alignment_data` reads and checks all files of a run before any slow step. Images of a split without a caption or a
file are left out, counted and logged by name; it is an error if no image is left.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sceneseek.captions import Captions, read_split
from sceneseek.errors import DataError
from sceneseek.tables import first_few
from sceneseek_evaluation.rating_files import read_expert
from sceneseek_evaluation.ratings import Ratings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """N images and M captions.

    Attributes:
        label: name in reports, such as the split's file name.
        names: (N) the images' names in the captions file.
        paths: (N) their files.
        captions: (M), grouped by image.
        owner: int64 (M,), the image of each caption, ascending.
        left_out: number of images left out, by reason.
    """

    label: str
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    captions: tuple[str, ...]
    owner: npt.NDArray[np.int64]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, kept: npt.NDArray[np.int64], reason: str) -> Corpus:
        """Return the images at these ascending positions with their captions; the others count as left out."""
        captions = np.flatnonzero(np.isin(self.owner, kept))
        return Corpus(
            label=self.label,
            names=tuple(self.names[i] for i in kept),
            paths=tuple(self.paths[i] for i in kept),
            captions=tuple(self.captions[i] for i in captions),
            owner=np.searchsorted(kept, self.owner[captions]).astype(np.int64),
            left_out={**self.left_out, reason: len(self) - len(kept)} if len(kept) < len(self) else self.left_out,
        )


def gather(label: str, folder: Path, captions: Captions, names: Sequence[str]) -> Corpus:
    """Return the named images of a folder that have a file and a caption, in the order of the names.

    Raises:
        DataError: the folder does not exist, or no image is left.
    """
    if not folder.is_dir():
        raise DataError(f"no folder of images at {folder}", "name the folder with --images")
    captioned = [name for name in names if name in captions.by_image]
    present = [name for name in captioned if (folder / name).is_file()]
    left_out = {}
    for reason, left in (
        ("without a caption", sorted(set(names) - set(captioned))),
        ("not in the folder", sorted(set(captioned) - set(present))),
    ):
        if left:
            left_out[reason] = len(left)
            log.warning("%s: %d images %s: %s", label, len(left), reason, first_few(left))
    if not present:
        raise DataError(
            f"{label}: none of {len(names):,} images has both a file in {folder} and a caption in {captions.path}",
            "use the same image names in all of them",
        )
    return Corpus(
        label=label,
        names=tuple(present),
        paths=tuple(folder / name for name in present),
        captions=tuple(caption for name in present for caption in captions.by_image[name]),
        owner=np.repeat(np.arange(len(present)), [len(captions.by_image[name]) for name in present]),
        left_out=left_out,
    )


_HELD_OUT = 0.05
_MIN_IMAGES = 4


@dataclass(frozen=True)
class AlignmentFiles:
    """The input files of `sceneseek train alignment`.

    Attributes:
        images: the folder that image names in the other files are relative to.
        captions: see `sceneseek.captions`.
        split: the images to train on; defaults to all that have captions.
        validate_split: the images to measure recall on.
        expert: human ratings, see `sceneseek_evaluation.ratings`.
        galleries: further folders to measure recall on, each with its captions.
        skip_unknown: whether to skip ratings of unknown images or captions instead of failing.
    """

    images: Path
    captions: Path
    split: Path | None = None
    validate_split: Path | None = None
    expert: Path | None = None
    galleries: tuple[tuple[Path, Path], ...] = ()
    skip_unknown: bool = False


@dataclass(frozen=True)
class AlignmentData:
    """The content of the input files.

    Attributes:
        train: the training images.
        measured: the images to measure recall on, the validation split first.
        calibration: held-out images to calibrate on; None if there are ratings.
        ratings: human ratings to calibrate on, or None.
    """

    train: Corpus
    measured: tuple[Corpus, ...]
    calibration: Corpus | None
    ratings: Ratings | None


def read_alignment_data(sources: AlignmentFiles, seed: int) -> AlignmentData:
    """Read and check all files.

    Without ratings the calibration needs images that are not trained on: the validation split, or else a twentieth of
    the training images, drawn with `seed` and held out.

    Raises:
        DataError: a file cannot be read, nothing usable is left, or validation images are also training images.
    """
    captions = Captions.read(sources.captions)
    names = read_split(sources.split) if sources.split else captions.names
    label = sources.split.name if sources.split else sources.captions.name
    measured, held_out = [], None
    if sources.validate_split:
        wanted = read_split(sources.validate_split)
        _refuse_shared(names, wanted, f"{sources.validate_split} and {label}")
        measured.append(gather(sources.validate_split.name, sources.images, captions, wanted))
        held_out = measured[0]
    ratings = None
    if sources.expert:
        ratings = read_expert(sources.expert, sources.images, captions, skip_unknown=sources.skip_unknown)
        _refuse_shared(names, ratings.names, f"{sources.expert} and {label}")
    train = gather(label, sources.images, captions, names)
    if ratings is None and held_out is None:
        train, held_out = _hold_out(train, captions, sources.images, seed)
    for folder, file in sources.galleries:
        gallery = Captions.read(file)
        measured.append(gather(folder.resolve().name, folder, gallery, gallery.names))
    return AlignmentData(train, tuple(measured), None if ratings else held_out, ratings)


def _hold_out(corpus: Corpus, captions: Captions, folder: Path, seed: int) -> tuple[Corpus, Corpus]:
    if len(corpus) < _MIN_IMAGES:
        raise DataError(
            f"{len(corpus)} images are too few to train and calibrate on",
            f"give at least {_MIN_IMAGES}, or ratings with --expert",
        )
    drawn = set(np.random.default_rng(seed).permutation(len(corpus))[: max(2, round(_HELD_OUT * len(corpus)))])
    held = [name for i, name in enumerate(corpus.names) if i in drawn]
    rest = [name for i, name in enumerate(corpus.names) if i not in drawn]
    label = f"{len(held)} held out of {corpus.label}"
    return gather(corpus.label, folder, captions, rest), gather(label, folder, captions, held)


def _refuse_shared(learned: Sequence[str], measured: Sequence[str], files: str) -> None:
    shared = sorted(set(learned) & set(measured))
    if shared:
        raise DataError(
            f"{files} share {len(shared):,} images: {first_few(shared)}",
            "images to measure or calibrate on must not be trained on; remove them from one of the two",
        )
