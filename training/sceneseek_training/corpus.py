"""A corpus: images with their captions, ready for the towers.

What a split names and cannot be used (no caption, no file) is left out, counted and logged by name; an
empty rest is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sceneseek.captions import Captions
from sceneseek.errors import DataError
from sceneseek.tables import first_few

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """N images and M captions.

    Attributes:
        label: what it is called in reports, such as the split's file name.
        names: (N) the images' names in the captions file.
        paths: (N) their files.
        captions: (M), those of one image side by side.
        owner: int64 (M,), the image of each caption, ascending.
        left_out: how many images were left out, by reason.
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
        """The images at these ascending positions with their captions; the others count as left out."""
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
    """The images of a folder that are named and captioned.

    Args:
        label: see `Corpus`.
        folder: where the images lie; a name is a path relative to it.
        captions: of these images and others.
        names: which images are wanted, in order.

    Raises:
        DataError: there is no such folder, or no image is left.
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
            f"{label}: of {len(names):,} images none has both a file in {folder} and a caption in {captions.path}",
            "names must be the same in all of them",
        )
    return Corpus(
        label=label,
        names=tuple(present),
        paths=tuple(folder / name for name in present),
        captions=tuple(caption for name in present for caption in captions.by_image[name]),
        owner=np.repeat(np.arange(len(present)), [len(captions.by_image[name]) for name in present]),
        left_out=left_out,
    )
