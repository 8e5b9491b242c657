"""Human ratings of image-caption pairs: experts' scores, crowd votes, and what users of the service said.

Three formats become one `Ratings`, a target in [0, 1] for each pair of an image and a text:

- **expert**: a table (see `tables`) of ``image``, ``caption_id`` and two or more of ``s1``, ``s2``, ``s3``...,
  whole numbers from 1 (no match) to 4 (full match). Target: (their mean, median or majority - 1) / 3.
- **crowd**: a table of ``image``, ``caption_id``, ``frac``, ``yes``, ``no``. Target: yes / (yes + no).
- **feedback**: JSON lines that the service appends, objects with ``query``, ``image``, ``rating`` (1 to 4) and
  maybe ``rater``; other fields are passed over. Target: as the experts'.

Either table may come without its header, as Hodosh, Young and Hockenmaier handed theirs out (Framing Image
Description as a Ranking Task, JAIR 47, 2013). Images are named by paths relative to their folder; a pair is an
image's name and a caption's text. Whatever is left out or merged is counted and logged by name; a line that
cannot be read is a DataError with its number. How a target is learned or measured is not known here.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sceneseek.captions import Caption, Captions
from sceneseek.errors import DataError, InvalidRequest
from sceneseek.request import checked_query
from sceneseek.tables import Record, first_few, read_lines, read_table
from sceneseek.vectors import Floats

log = logging.getLogger(__name__)

Aggregation = Literal["mean", "median", "majority"]

LOWEST, HIGHEST = 1, 4
_KEYS = ("image", "caption_id")
_VOTES = ("frac", "yes", "no")
_SCORE = re.compile(r"s[1-9][0-9]*")
_COUNT = re.compile(r"[0-9]{1,9}")
_ROUNDING = 0.01  # of ``frac``, which is written with few digits
_NO_CAPTION, _NO_IMAGE = "of unknown captions", "of images not in the folder"

_Pair = tuple[str, str]  # an image's name and a caption's text
_Values = tuple[int, ...]  # a row's scores, or its counts of votes for yes and no


@dataclass(frozen=True)
class ImageFolder:
    """Where images lie, and how their files are found by name.

    Attributes:
        root: the folder.
        places: the folders inside it where a name is looked for, in this order; "" is the folder itself.
    """

    root: Path
    places: tuple[str, ...] = ("",)

    def find(self, name: str) -> str | None:
        """The path of a file relative to `root`, or None where there is none inside the folder."""
        if not _is_relative(name):
            return None
        for place in self.places:
            inside = f"{place}/{name}" if place else name
            try:
                if (self.root / inside).is_file():
                    return inside
            except OSError:  # longer than any file's name, say: no such file
                continue
        return None


@dataclass(frozen=True)
class Ratings:
    """P rated pairs of N images and M captions.

    Attributes:
        label: the file's name.
        names, paths: (N) the images, paths relative to their folder, and their files.
        captions: (M) the captions' texts, no two alike.
        image, caption: int64 (P,), positions in these.
        target: float32 (P,), in [0, 1].
        weight: float32 (P,), how many raters or votes stand behind the target.
        scores: float32 (P, R), each rater's score brought to [0, 1], NaN where fewer than R rated; R is 0 for
            crowd votes.
        own: bool (P,), whether the caption was written for this image.
        left_out: how many rows were left out, by reason.
        merged: how many rows were merged into others, by reason.
    """

    label: str
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    captions: tuple[str, ...]
    image: npt.NDArray[np.int64]
    caption: npt.NDArray[np.int64]
    target: Floats
    weight: Floats
    scores: Floats
    own: npt.NDArray[np.bool_]
    left_out: dict[str, int]
    merged: dict[str, int]

    def __len__(self) -> int:
        return len(self.target)

    def take(self, places: npt.NDArray[np.int64], left_out: dict[str, int]) -> Ratings:
        """The pairs at these places, with another account of what was left out; images and captions stay."""
        return replace(
            self,
            image=self.image[places],
            caption=self.caption[places],
            target=self.target[places],
            weight=self.weight[places],
            scores=self.scores[places],
            own=self.own[places],
            left_out=left_out,
        )


def read_expert(
    path: Path,
    folder: Path | ImageFolder,
    captions: Captions,
    aggregate: Aggregation = "mean",
    skip_unknown: bool = False,
) -> Ratings:
    """Read a table of experts' scores.

    Rows that say the same twice are kept once; a pair with other scores in another row keeps all of them.

    Args:
        path: the file.
        folder: where the images lie; names are relative to it.
        captions: with their ids.
        aggregate: what becomes of several scores; `majority` is the score given more often than any other,
            and the mean where none leads.
        skip_unknown: leave out ratings of unknown images or captions, rather than fail.

    Raises:
        DataError: see `read_table`; fewer than two columns of scores; a score that is no whole number from 1
            to 4; an image's name that leads out of the folder; an unknown image or caption; no usable rating,
            or all equal.
    """
    columns, records = _open_table(path, _KEYS, lambda count: tuple(f"s{i + 1}" for i in range(count)))
    scored = sorted((name for name in columns if _SCORE.fullmatch(name)), key=lambda name: int(name[1:]))
    if len(scored) < 2:
        raise DataError(
            f"{path} has {f'only one rating column, {scored[0]}' if scored else 'no rating column'}",
            "expert ratings need at least two: s1, s2, ...",
        )
    rows = (
        _row(record, path, tuple(_score(record.fields[name].strip(), record.line, path, name) for name in scored))
        for record in records
    )
    return _scored(_gather(path, _as_folder(folder), captions, rows, skip_unknown), aggregate)


def read_crowd(path: Path, folder: Path | ImageFolder, captions: Captions, skip_unknown: bool = False) -> Ratings:
    """Read a table of crowd votes.

    Rows that say the same twice are kept once; where a pair's rows differ, their votes are added up.

    Args:
        path: the file.
        folder: where the images lie; names are relative to it.
        captions: with their ids.
        skip_unknown: see `read_expert`.

    Raises:
        DataError: see `read_table`; counts that are no whole numbers, or no vote; a ``frac`` that is not
            yes / (yes + no); an image's name that leads out of the folder; an unknown image or caption; no
            usable rating, or all equal.
    """
    _, records = _open_table(path, (*_KEYS, *_VOTES), lambda _: _VOTES)
    rows = (_row(record, path, _votes(record, path)) for record in records)
    found = _gather(path, _as_folder(folder), captions, rows, skip_unknown)
    votes = np.array([np.sum(given, axis=0) for given in found.pairs.values()], np.float64).reshape(-1, 2)
    weight = votes.sum(axis=1)
    return _assembled(found, votes[:, 0] / weight, weight, np.zeros((len(votes), 0)))


def read_feedback(
    path: Path, folder: Path | ImageFolder, aggregate: Aggregation = "mean", skip_unknown: bool = False
) -> Ratings:
    """Read what the service appended: a pair's caption is the query, in the form that is searched.

    Of one rater's ratings of a pair the last one counts; each line without a rater is a rater of its own. Nobody
    knows whether a query was written for an image, so `own` is False. A last line that a dying process left
    unfinished is left out.

    Args:
        path: the file.
        folder: where the images lie; names are relative to it.
        aggregate: see `read_expert`.
        skip_unknown: see `read_expert`.

    Raises:
        DataError: no such file, empty, or not UTF-8; a line that is no such object, or whose rating is no whole
            number from 1 to 4; an image's name that leads out of the folder; an unknown image; no usable
            rating. Equal ones are no error here, since a little feedback is pooled with other ratings.
    """
    images = _as_folder(folder)
    lines, torn = _read_lines_of_json(path)
    missing: list[str] = []
    latest: dict[tuple[str, _Pair] | int, tuple[_Pair, int]] = {}
    superseded = 0
    for line, document in lines:
        said = _said(document, line, path)
        image = images.find(said.image)
        if image is None:
            missing.append(said.image)
            continue
        pair = image, said.query
        whose = (said.rater, pair) if said.rater else line
        superseded += whose in latest
        latest[whose] = pair, said.rating
    found = _Found(path.name, path)
    found.leave_out(len(lines), {_NO_IMAGE: missing}, skip_unknown)
    if torn:
        found.left_out["torn last line"] = 1
        log.warning("%s: the last line is torn and left out: whoever wrote it died while writing", path)
    if superseded:
        found.merged["superseded"] = superseded
        log.info("%s: %d ratings superseded by later ones of the same rater", path, superseded)
    for pair, rating in latest.values():
        found.add(pair, images.root / pair[0], (rating,), own=False)
    return _scored(found, aggregate, varied=False)


def pooled(ratings: Sequence[Ratings], aggregate: Aggregation = "mean") -> Ratings:
    """Several files of scores as one: the raters of a pair stand side by side, whichever file they are from.

    Args:
        ratings: of experts or from feedback; images are told apart by name, captions by text.
        aggregate: see `read_expert`.

    Raises:
        DataError: one name stands for two files, or all ratings are equal.
        ValueError: there are none, or votes among them.
    """
    if not ratings or not all(one.scores.shape[1] for one in ratings):
        raise ValueError("only ratings with scores can be pooled, and at least one of them")
    label = " + ".join(one.label for one in ratings)
    found = _Found(label, label)
    left_out, merged = Counter[str](), Counter[str]()
    for one in ratings:
        for image, caption, scores, own in zip(one.image, one.caption, one.scores, one.own, strict=True):
            pair, path = (one.names[image], one.captions[caption]), one.paths[image]
            if found.paths.get(pair[0], path) != path:
                raise DataError(
                    f"{label}: {pair[0]} is {found.paths[pair[0]]} and {path}",
                    "pool ratings whose images are named relative to one folder",
                )
            merged["rated in several files"] += pair in found.pairs
            levels = np.rint(scores[~np.isnan(scores)] * (HIGHEST - LOWEST) + LOWEST)
            found.add(pair, path, tuple(int(level) for level in levels), bool(own))
        left_out.update(one.left_out)
        merged.update(one.merged)
    found.left_out.update(left_out)
    found.merged.update(+merged)  # without those that are zero
    return _scored(found, aggregate)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a table, read and checked."""

    image: str
    caption_id: str
    values: _Values


@dataclass(frozen=True, slots=True)
class _Said:
    """One line of feedback, read and checked; `rater` is empty where nobody is named."""

    query: str
    image: str
    rating: int
    rater: str


@dataclass(frozen=True, slots=True)
class _Found:
    """Pairs in the order in which they are first met, each with what was said about it."""

    label: str
    where: Path | str
    paths: dict[str, Path] = field(default_factory=dict)
    pairs: dict[_Pair, list[_Values]] = field(default_factory=dict)
    own: set[_Pair] = field(default_factory=set)
    left_out: dict[str, int] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)

    def add(self, pair: _Pair, path: Path, values: _Values, own: bool) -> None:
        self.paths.setdefault(pair[0], path)
        self.pairs.setdefault(pair, []).append(values)
        if own:
            self.own.add(pair)

    def merge(self, reason: str, names: list[str]) -> None:
        if names:
            self.merged[reason] = len(names)
            log.warning("%s: %d %s: %s", self.where, len(names), reason, first_few(sorted(set(names))))

    def leave_out(self, rows: int, unknown: Mapping[str, list[str]], skip: bool) -> None:
        """Count and log the rows that name something unknown, or refuse the file."""
        said = {
            reason: f"{len(names):,} {reason} ({first_few(sorted(set(names)))})"
            for reason, names in unknown.items()
            if names
        }
        if said and not skip:
            count = sum(len(names) for names in unknown.values())
            raise DataError(
                f"{self.where}: {count:,} of {rows:,} ratings cannot be used: {', '.join(said.values())}",
                "repair them, or pass --skip-unknown to leave them out",
            )
        for reason, text in said.items():
            self.left_out[reason] = len(unknown[reason])
            log.warning("%s: left out ratings: %s", self.where, text)


def _gather(path: Path, images: ImageFolder, captions: Captions, rows: Iterable[_Row], skip: bool) -> _Found:
    """The pairs of a table's rows: equal rows once, others of one pair side by side."""
    if not captions.by_id:
        raise DataError(f"{captions.path} has no caption ids", f"{path} refers to captions by them (caption_id)")
    unknown: dict[str, list[str]] = {_NO_CAPTION: [], _NO_IMAGE: []}
    known: list[tuple[str, Caption, _Values]] = []
    for row in rows:
        caption, image = captions.by_id.get(row.caption_id), images.find(row.image)
        if caption is None:
            unknown[_NO_CAPTION].append(row.caption_id)
        elif image is None:
            unknown[_NO_IMAGE].append(row.image)
        else:
            known.append((image, caption, row.values))
    found = _Found(path.name, path)
    found.leave_out(len(known) + sum(map(len, unknown.values())), unknown, skip)
    merged: dict[str, list[str]] = {"duplicates": [], "contradictions": [], "of another id's text": []}
    said: dict[_Pair, dict[str, set[_Values]]] = {}
    for image, caption, values in known:
        pair = image, caption.text
        of_pair = said.setdefault(pair, {})
        of_id = of_pair.setdefault(caption.caption_id, set())
        if of_id or len(of_pair) > 1:
            again = "duplicates" if values in of_id else "contradictions"
            merged[again if of_id else "of another id's text"].append(f"{image} with {caption.caption_id}")
        if values not in of_id:
            of_id.add(values)
            found.add(pair, images.root / image, values, own=caption.image == image)
    for reason, names in merged.items():
        found.merge(reason, names)
    return found


def _scored(found: _Found, aggregate: Aggregation, varied: bool = True) -> Ratings:
    """Ratings whose values are scores."""
    given = [[score for values in rows for score in values] for rows in found.pairs.values()]
    levels = np.full((len(given), max(map(len, given), default=0)), np.nan)
    for row, scores in zip(levels, given, strict=True):
        row[: len(scores)] = scores
    return _assembled(
        found,
        _to_unit(_aggregated(levels, aggregate)),
        (~np.isnan(levels)).sum(axis=1),
        _to_unit(levels),
        varied,
    )


def _assembled(
    found: _Found,
    target: npt.NDArray[np.float64],
    weight: npt.NDArray[Any],
    scores: npt.NDArray[np.float64],
    varied: bool = True,
) -> Ratings:
    """The ratings; where they must be `varied`, equal ones are an error."""
    if not found.pairs:
        raise DataError(f"{found.where} holds no rating of a known image and caption", "check --images and --captions")
    narrow = target.astype(np.float32)
    if varied and (narrow == narrow[0]).all():
        raise DataError(f"all ratings in {found.where} are equal", "a score is learned from good and bad matches")
    images = {name: i for i, name in enumerate(found.paths)}
    captions = {text: i for i, text in enumerate(dict.fromkeys(text for _, text in found.pairs))}
    return Ratings(
        label=found.label,
        names=tuple(found.paths),
        paths=tuple(found.paths.values()),
        captions=tuple(captions),
        image=np.array([images[name] for name, _ in found.pairs], np.int64),
        caption=np.array([captions[text] for _, text in found.pairs], np.int64),
        target=narrow,
        weight=weight.astype(np.float32),
        scores=scores.astype(np.float32),
        own=np.array([pair in found.own for pair in found.pairs], np.bool_),
        left_out=found.left_out,
        merged=found.merged,
    )


def _aggregated(levels: npt.NDArray[np.float64], aggregate: Aggregation) -> npt.NDArray[np.float64]:
    """One level (P,) for the raters' levels (P, R), NaN where there is none."""
    mean: npt.NDArray[np.float64] = np.nanmean(levels, axis=1)
    if aggregate == "mean":
        return mean
    if aggregate == "median":
        median: npt.NDArray[np.float64] = np.nanmedian(levels, axis=1)
        return median
    count = np.stack([(levels == level).sum(axis=1) for level in range(LOWEST, HIGHEST + 1)], axis=1)
    leads = (count == count.max(axis=1, keepdims=True)).sum(axis=1) == 1
    return np.where(leads, count.argmax(axis=1) + LOWEST, mean)


def _to_unit(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (levels - LOWEST) / (HIGHEST - LOWEST)


def _open_table(
    path: Path, required: tuple[str, ...], ratings: Callable[[int], tuple[str, ...]]
) -> tuple[list[str], list[Record]]:
    """The columns and records of a table with or without a header.

    Args:
        path: the file.
        required: the columns that a header must name.
        ratings: the names of a headerless table's columns after the keys, given how many there are.
    """
    first = [text.strip() for text in read_lines(path, "ratings")[0].split("\t")]
    if set(first) & set(_KEYS) or not any(_is_number(text) for text in first[len(_KEYS) :]):
        twice = [name for name, count in Counter(first).items() if count > 1]
        if twice:
            raise DataError(f"{path} has two columns {twice[0]!r}", "give each its own name")
        return first, list(read_table(path, "ratings", required))
    columns = [*_KEYS, *ratings(len(first) - len(_KEYS))]
    return columns, list(_headerless(path, columns))


def _headerless(path: Path, columns: list[str]) -> Iterator[Record]:
    for number, line in enumerate(read_lines(path, "ratings"), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) != len(columns):
            raise DataError(
                f"line {number} of {path} has {len(fields)} fields, not the {len(columns)} of {', '.join(columns)}",
                "put one rating on a line, divided by tabs",
            )
        yield Record(number, dict(zip(columns, fields, strict=True)))


def _row(record: Record, path: Path, values: _Values) -> _Row:
    image = _image_name(record.fields["image"].strip(), record.line, path)
    return _Row(image, record.fields["caption_id"].strip(), values)


def _score(text: str, line: int, path: Path, column: str) -> int:
    if text not in {str(level) for level in range(LOWEST, HIGHEST + 1)}:
        raise DataError(
            f"line {line} of {path} has the rating {text[:40]!r} in {column}",
            f"ratings are whole numbers from {LOWEST} to {HIGHEST}",
        )
    return int(text)


def _votes(record: Record, path: Path) -> _Values:
    where, fields = f"line {record.line} of {path}", {name: record.fields[name].strip() for name in _VOTES}
    for name in ("yes", "no"):
        if not _COUNT.fullmatch(fields[name]):
            raise DataError(f"{where} has {fields[name][:40]!r} in {name}", "votes are counted in whole numbers from 0")
    yes, no = int(fields["yes"]), int(fields["no"])
    if not yes + no:
        raise DataError(f"{where} has no votes, 0 in yes and in no", "remove the line, or give it its votes")
    share = float(fields["frac"]) if _is_number(fields["frac"]) else math.nan
    if not abs(share - yes / (yes + no)) <= _ROUNDING:
        raise DataError(
            f"{where} has {fields['frac'][:40]!r} in frac, but {yes} yes and {no} no", "frac is yes / (yes + no)"
        )
    return yes, no


def _read_lines_of_json(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], bool]:
    """The objects of a file with their lines' numbers, and whether a torn last line was passed over."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"no ratings at {path}", "check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "name a readable file of ratings") from error
    if not content.strip():
        raise DataError(f"{path} is empty", "name a file of ratings")
    lines = content.split(b"\n")
    found: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            # What is finished ends with a line feed, and then an empty line comes last.
            if number == len(lines):
                return found, True
            flaw = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else "is not JSON"
            raise DataError(f"line {number} of {path} {flaw}", "put one JSON object on each line") from error
        if not isinstance(document, dict):
            raise DataError(f"line {number} of {path} is no JSON object", "put one JSON object on each line")
        found.append((number, document))
    return found, False


def _said(document: Mapping[str, Any], line: int, path: Path) -> _Said:
    where = f"line {line} of {path}"
    missing = [name for name in ("query", "image", "rating") if name not in document]
    if missing:
        raise DataError(f"{where} has no {missing[0]!r}", "each line needs query, image and rating")
    texts: dict[str, Any] = {
        name: document[name] for name in ("query", "image", "rater") if document.get(name) is not None
    }
    for name, text in texts.items():
        if not isinstance(text, str):
            raise DataError(f"{where} has {json.dumps(text)[:40]!r} in {name}", "write a text there")
    try:
        query = checked_query(texts.get("query", ""))
    except InvalidRequest as error:
        raise DataError(f"{where}: {error.what}", "remove the line, or repair its query") from error
    image = _image_name(texts.get("image", ""), line, path)
    return _Said(query, image, _score(json.dumps(document["rating"]), line, path, "rating"), texts.get("rater", ""))


def _image_name(name: str, line: int, path: Path) -> str:
    if not _is_relative(name):
        raise DataError(
            f"line {line} of {path} names the image {name[:80]!r}",
            "image names are paths relative to the folder, such as animals/dog.jpg",
        )
    return name


def _is_relative(name: str) -> bool:
    """Whether a name is a relative path in its shortest form, so that it stays inside and has no other spelling."""
    return not {"", ".", ".."} & set(name.split("/"))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _as_folder(folder: Path | ImageFolder) -> ImageFolder:
    images = folder if isinstance(folder, ImageFolder) else ImageFolder(folder)
    if not images.root.is_dir():
        raise DataError(f"no folder of images at {images.root}", "name the folder with --images")
    return images
