"""Human ratings of image-caption pairs, as in Flickr8k: three experts, scores from 1 to 4.

A ratings file is a table (see `tables`) with the columns ``image``, ``caption_id``, ``s1``, ``s2`` and
``s3``. The target is y = (mean of the three - 1) / 3, from 0 (no match) to 1 (full match). Hodosh, Young
and Hockenmaier, Framing Image Description as a Ranking Task, JAIR 47 (2013).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sceneseek.errors import DataError
from sceneseek.tables import Record, first_few, read_table
from sceneseek.vectors import Floats
from training.captions import Captions

log = logging.getLogger(__name__)

SCORES = ("s1", "s2", "s3")
LOWEST, HIGHEST = 1, 4


@dataclass(frozen=True)
class Ratings:
    """P rated pairs of some images and captions.

    Attributes:
        label: the file's name.
        names, paths: the images.
        captions: the captions.
        image, caption: int64 (P,), positions in these.
        target: float32 (P,), y in [0, 1].
        left_out: how many ratings were left out, by reason.
    """

    label: str
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    captions: tuple[str, ...]
    image: npt.NDArray[np.int64]
    caption: npt.NDArray[np.int64]
    target: Floats
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.target)


def read_ratings(path: Path, folder: Path, captions: Captions) -> Ratings:
    """Read a ratings file; ratings of unknown images or captions are counted and logged.

    Args:
        path: the file.
        folder: where the images lie.
        captions: with their ids.

    Raises:
        DataError: see `read_table`; or a score is not a whole number from 1 to 4, no rating is usable, or
            all are equal.
    """
    if not captions.by_id:
        raise DataError(f"{captions.path} has no column 'caption_id'", f"{path} refers to captions by their ids")
    images: dict[str, int] = {}
    texts: dict[str, int] = {}
    rows: list[tuple[int, int, float]] = []
    unknown: dict[str, list[str]] = {"of unknown captions": [], "of images not in the folder": []}
    for record in read_table(path, "ratings", ("image", "caption_id", *SCORES)):
        name, caption_id = record.fields["image"].strip(), record.fields["caption_id"].strip()
        target = _target(record, path)
        if caption_id not in captions.by_id:
            unknown["of unknown captions"].append(caption_id)
        elif name not in images and not (folder / name).is_file():
            unknown["of images not in the folder"].append(name)
        else:
            rows.append((images.setdefault(name, len(images)), texts.setdefault(caption_id, len(texts)), target))
    for reason, names in unknown.items():
        if names:
            log.warning("%s: %d ratings %s: %s", path, len(names), reason, first_few(sorted(set(names))))
    if not rows:
        raise DataError(f"{path} holds no rating of a known image and caption", "check --images and --captions")
    image, caption, targets = zip(*rows, strict=True)
    if len(set(targets)) == 1:
        raise DataError(f"all ratings in {path} are equal", "a calibration needs good and bad matches")
    return Ratings(
        label=path.name,
        names=tuple(images),
        paths=tuple(folder / name for name in images),
        captions=tuple(captions.by_id[caption_id] for caption_id in texts),
        image=np.array(image, np.int64),
        caption=np.array(caption, np.int64),
        target=np.array(targets, np.float32),
        left_out={reason: len(names) for reason, names in unknown.items() if names},
    )


def _target(record: Record, path: Path) -> float:
    scores = []
    for column in SCORES:
        value = record.fields[column].strip()
        if value not in {str(score) for score in range(LOWEST, HIGHEST + 1)}:
            raise DataError(
                f"line {record.line} of {path} has the rating {value!r} in {column}",
                f"ratings are whole numbers from {LOWEST} to {HIGHEST}",
            )
        scores.append(int(value))
    return (sum(scores) / len(scores) - LOWEST) / (HIGHEST - LOWEST)
