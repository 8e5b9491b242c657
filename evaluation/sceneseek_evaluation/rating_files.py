"""Reads files of human ratings, by experts, a crowd or the service's users.

- **expert**: a table of ``image``, ``caption_id`` and two or more of ``s1``, ``s2``, ``s3``..., integers from 1 (no
  match) to 4 (full match). Target: (their mean, median or majority - 1) / 3.
- **crowd**: a table of ``image``, ``caption_id``, ``frac``, ``yes``, ``no``. Target: yes / (yes + no).
- **feedback**: JSON lines from `sceneseek feedback export`. Target: as for experts.

Both tables may lack the header, like those published by Hodosh, Young and Hockenmaier (Framing Image Description as a
Ranking Task, JAIR 47, 2013). Images are named by paths relative to their folder. Rows left out or merged are counted
and logged by name; an invalid line raises a DataError with its number.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sceneseek.captions import Caption, Captions
from sceneseek.errors import DataError, InvalidRequest
from sceneseek.payload import is_relative
from sceneseek.request import HIGHEST, LOWEST, checked_query
from sceneseek.tables import Row, Table, read_objects, read_table
from sceneseek_evaluation.ratings import (
    NO_IMAGE,
    Aggregation,
    Pair,
    RatingRows,
    Ratings,
    Values,
    build_ratings,
    ratings_from_scores,
)

log = logging.getLogger(__name__)

_KEYS = ("image", "caption_id")
_VOTES = ("frac", "yes", "no")
_SCORE = re.compile(r"s[1-9][0-9]*")
_COUNT = re.compile(r"[0-9]{1,9}")
_ROUNDING = 0.01  # tolerance of ``frac``, which is written with few digits
_NO_CAPTION = "of unknown captions"


def read_expert(
    path: Path,
    folder: Path | ImageFolder,
    captions: Captions,
    aggregate: Aggregation = "mean",
    skip_unknown: bool = False,
) -> Ratings:
    """Read a table of expert scores.

    Duplicate rows count once; the scores of different rows of a pair are joined.

    Args:
        path: the file.
        folder: the folder that image names are relative to.
        captions: captions with ids.
        aggregate: how to combine the scores of a pair; `majority` is the most frequent score, or the mean if several
            are equally frequent.
        skip_unknown: whether to skip ratings of unknown images or captions instead of failing.

    Raises:
        DataError: see `read_table`; fewer than two columns of scores; a score is not an integer from 1 to 4; an image
            name points outside the folder; an unknown image or caption; there are no usable ratings, or all are equal.
    """
    table = _read_table(path, _KEYS, lambda count: tuple(f"s{i + 1}" for i in range(count)))
    rated = sorted((name for name in table.columns if _SCORE.fullmatch(name)), key=lambda name: int(name[1:]))
    if len(rated) < 2:
        raise DataError(
            f"{path} has {f'only one rating column, {rated[0]}' if rated else 'no rating column'}",
            "expert ratings need at least two: s1, s2, ...",
        )
    rows = (
        _rating(row, path, tuple(_score(row.fields[name].strip(), row.line, path, name) for name in rated))
        for row in table.rows
    )
    return ratings_from_scores(_gather(path, _as_folder(folder), captions, rows, skip_unknown), aggregate)


def read_crowd(path: Path, folder: Path | ImageFolder, captions: Captions, skip_unknown: bool = False) -> Ratings:
    """Read a table of crowd votes.

    Duplicate rows count once; the votes of different rows of a pair are added. For the arguments see `read_expert`.

    Raises:
        DataError: see `read_table`; a count is not an integer; a row has no votes; ``frac`` is not yes / (yes + no); an
            image name points outside the folder; an unknown image or caption; there are no usable ratings, or all are
            equal.
    """
    table = _read_table(path, (*_KEYS, *_VOTES), lambda _: _VOTES)
    rows = (_rating(row, path, _votes(row, path)) for row in table.rows)
    collected = _gather(path, _as_folder(folder), captions, rows, skip_unknown)
    votes = np.array([np.sum(counts, axis=0) for counts in collected.pairs.values()], np.float64).reshape(-1, 2)
    weight = votes.sum(axis=1)
    return build_ratings(collected, votes[:, 0] / weight, weight, np.zeros((len(votes), 0)))


@dataclass(frozen=True, slots=True)
class _Rating:
    """One validated line of a table."""

    image: str
    caption_id: str
    values: Values


def _gather(path: Path, images: ImageFolder, captions: Captions, rows: Iterable[_Rating], skip: bool) -> RatingRows:
    """Collect the rows of a table by pair, without duplicate rows."""
    if not captions.by_id:
        raise DataError(f"{captions.path} has no caption ids", f"{path} refers to captions by them (caption_id)")
    unknown: dict[str, list[str]] = {_NO_CAPTION: [], NO_IMAGE: []}
    known: list[tuple[str, Caption, Values]] = []
    for row in rows:
        caption, image = captions.by_id.get(row.caption_id), images.find(row.image)
        if caption is None:
            unknown[_NO_CAPTION].append(row.caption_id)
        elif image is None:
            unknown[NO_IMAGE].append(row.image)
        else:
            known.append((image, caption, row.values))
    collected = RatingRows(path.name, path)
    collected.leave_out(len(known) + sum(map(len, unknown.values())), unknown, skip)
    merged: dict[str, list[str]] = {"duplicates": [], "contradictions": [], "of another id's text": []}
    seen: dict[Pair, dict[str, set[Values]]] = {}
    for image, caption, values in known:
        pair = image, caption.text
        of_pair = seen.setdefault(pair, {})
        of_id = of_pair.setdefault(caption.caption_id, set())
        if of_id or len(of_pair) > 1:
            repeated = "duplicates" if values in of_id else "contradictions"
            merged[repeated if of_id else "of another id's text"].append(f"{image} with {caption.caption_id}")
        if values not in of_id:
            of_id.add(values)
            collected.add(pair, images.root / image, values, own=caption.image == image)
    for reason, names in merged.items():
        collected.merge(reason, names)
    return collected


def _read_table(path: Path, required: tuple[str, ...], ratings: Callable[[int], tuple[str, ...]]) -> Table:
    """Read a table with the required columns, or without a header.

    `ratings` returns the names of a headerless table's columns after the keys, given their number.
    """

    def headerless(first: list[str]) -> list[str] | None:
        if set(first) & set(_KEYS) or not any(_is_number(text) for text in first[len(_KEYS) :]):
            return None
        return [*_KEYS, *ratings(len(first) - len(_KEYS))]

    return read_table(path, "ratings", required, headerless=headerless)


def _rating(row: Row, path: Path, values: Values) -> _Rating:
    image = _image_name(row.fields["image"].strip(), row.line, path)
    return _Rating(image, row.fields["caption_id"].strip(), values)


def _votes(row: Row, path: Path) -> Values:
    where, fields = f"line {row.line} of {path}", {name: row.fields[name].strip() for name in _VOTES}
    for name in ("yes", "no"):
        if not _COUNT.fullmatch(fields[name]):
            raise DataError(f"{where} has {fields[name][:40]!r} in {name}", "votes are counted in whole numbers from 0")
    yes, no = int(fields["yes"]), int(fields["no"])
    if not yes + no:
        raise DataError(f"{where} has no votes, 0 in yes and in no", "remove the line, or add its votes")
    share = float(fields["frac"]) if _is_number(fields["frac"]) else math.nan
    if not abs(share - yes / (yes + no)) <= _ROUNDING:
        raise DataError(
            f"{where} has {fields['frac'][:40]!r} in frac, but {yes} yes and {no} no", "frac is yes / (yes + no)"
        )
    return yes, no


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_feedback(
    path: Path, folder: Path | ImageFolder, aggregate: Aggregation = "mean", skip_unknown: bool = False
) -> Ratings:
    """Read exported ratings; the caption of a pair is the normalized query.

    Only a rater's last rating of a pair counts; each line without a rater counts as another rater. Whether a query was
    written for an image is unknown, so `own` is False. For the arguments see `read_expert`.

    Raises:
        DataError: the file does not exist, is empty, or is not UTF-8; a line is not such an object; a rating is not an
            integer from 1 to 4; an image name points outside the folder; an unknown image; there are no usable ratings.
            Equal ratings are allowed, since a little feedback is pooled with other ratings.
    """
    images = _as_folder(folder)
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(15) == b"SQLite format 3":
            raise DataError(f"{path} is the service's database", "give the output of `sceneseek feedback export`")
    lines = list(read_objects(path, "ratings"))
    missing: list[str] = []
    latest: dict[tuple[str, Pair] | int, tuple[Pair, int]] = {}
    superseded = 0
    for line, document in lines:
        entry = _entry(document, line, path)
        image = images.find(entry.image)
        if image is None:
            missing.append(entry.image)
            continue
        pair = image, entry.query
        key = (entry.rater, pair) if entry.rater else line
        superseded += key in latest
        latest[key] = pair, entry.rating
    collected = RatingRows(path.name, path)
    collected.leave_out(len(lines), {NO_IMAGE: missing}, skip_unknown)
    if superseded:
        collected.merged["superseded"] = superseded
        log.info("%s: %d ratings superseded by later ones of the same rater", path, superseded)
    for pair, rating in latest.values():
        collected.add(pair, images.root / pair[0], (rating,), own=False)
    return ratings_from_scores(collected, aggregate, varied=False)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One validated line of feedback; `rater` is empty if unknown."""

    query: str
    image: str
    rating: int
    rater: str


def _entry(document: Mapping[str, Any], line: int, path: Path) -> _Entry:
    where = f"line {line} of {path}"
    missing = [name for name in ("query", "image", "rating") if name not in document]
    if missing:
        raise DataError(f"{where} has no {missing[0]!r}", "each line needs query, image and rating")
    texts: dict[str, Any] = {
        name: document[name] for name in ("query", "image", "rater") if document.get(name) is not None
    }
    for name, text in texts.items():
        if not isinstance(text, str):
            raise DataError(f"{where} has {json.dumps(text)[:40]!r} in {name}", f"{name} must be a string")
    try:
        query = checked_query(texts.get("query", ""))
    except InvalidRequest as error:
        raise DataError(f"{where}: {error.what}", "remove the line, or repair its query") from error
    image = _image_name(texts.get("image", ""), line, path)
    return _Entry(query, image, _score(json.dumps(document["rating"]), line, path, "rating"), texts.get("rater", ""))


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images, with lookup of files by name.

    Attributes:
        root: the folder.
        places: the subfolders to search for a name, in this order; "" is the folder itself.
    """

    root: Path
    places: tuple[str, ...] = ("",)

    def find(self, name: str) -> str | None:
        """Return the path of a file relative to `root`; None if it is not in the folder."""
        if not is_relative(name):
            return None
        for place in self.places:
            inside = f"{place}/{name}" if place else name
            try:
                if (self.root / inside).is_file():
                    return inside
            except OSError:  # such as a name that is too long
                continue
        return None


def _as_folder(folder: Path | ImageFolder) -> ImageFolder:
    images = folder if isinstance(folder, ImageFolder) else ImageFolder(folder)
    if not images.root.is_dir():
        raise DataError(f"no folder of images at {images.root}", "name the folder with --images")
    return images


def _image_name(name: str, line: int, path: Path) -> str:
    """Validate an image name: a normalized path inside the folder."""
    if not is_relative(name):
        raise DataError(
            f"line {line} of {path} names the image {name[:80]!r}",
            "image names are paths relative to the folder, such as animals/dog.jpg",
        )
    return name


def _score(text: str, line: int, path: Path, column: str) -> int:
    """Parse a score."""
    if text not in {str(level) for level in range(LOWEST, HIGHEST + 1)}:
        raise DataError(
            f"line {line} of {path} has the rating {text[:40]!r} in {column}",
            f"ratings are whole numbers from {LOWEST} to {HIGHEST}",
        )
    return int(text)
