"""What a training run is given: the user's files, read and checked before anything slow begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sceneseek.captions import Captions, read_split
from sceneseek.errors import DataError
from sceneseek.tables import first_few
from sceneseek_evaluation.ratings import Ratings, read_expert
from sceneseek_training.corpus import Corpus, gather

_HELD_OUT = 0.05
_LEAST_IMAGES = 4


@dataclass(frozen=True)
class Sources:
    """The files.

    Attributes:
        images: the folder that names in the other files are relative to.
        captions: see `sceneseek.captions`.
        split: the images to learn from; None takes all that have captions.
        validate_split: images to measure recall on.
        expert: human ratings, see `sceneseek_evaluation.ratings`.
        galleries: other folders, each with its captions, to measure recall on.
        skip_unknown: whether ratings of unknown images or captions are left out rather than an error.
    """

    images: Path
    captions: Path
    split: Path | None = None
    validate_split: Path | None = None
    expert: Path | None = None
    galleries: tuple[tuple[Path, Path], ...] = ()
    skip_unknown: bool = False


@dataclass(frozen=True)
class Material:
    """The files' content.

    Attributes:
        train: what is learned from.
        measured: what recall is measured on, the validation split first.
        calibration: held-out images whose captions calibrate, where there are no ratings.
        ratings: human ratings, or None.
    """

    train: Corpus
    measured: tuple[Corpus, ...]
    calibration: Corpus | None
    ratings: Ratings | None


def read_material(sources: Sources, seed: int) -> Material:
    """Read and check all files.

    Without ratings the calibration needs images that nothing was learned from: those of the validation
    split, or else a twentieth of the others, drawn by `seed` and taken out of learning.

    Raises:
        DataError: a file cannot be read, nothing usable is left, or images that measure were learned from.
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
    measured += [_gallery(folder, file) for folder, file in sources.galleries]
    return Material(train, tuple(measured), None if ratings else held_out, ratings)


def _gallery(folder: Path, file: Path) -> Corpus:
    captions = Captions.read(file)
    return gather(folder.resolve().name, folder, captions, captions.names)


def _hold_out(corpus: Corpus, captions: Captions, folder: Path, seed: int) -> tuple[Corpus, Corpus]:
    if len(corpus) < _LEAST_IMAGES:
        raise DataError(
            f"{len(corpus)} images are too few to learn from and to calibrate on",
            f"give at least {_LEAST_IMAGES}, or ratings with --expert",
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
            "what measures or calibrates must not be learned from; take them out of one of the two",
        )
