"""Human ratings of pairs of an image and a caption, with one target in [0, 1] for each pair.

`rating_files` collects the rows of a file in `RatingRows`, which `ratings_from_scores` and `build_ratings` convert to
`Ratings`; `pooled` joins several files.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sceneseek.errors import DataError
from sceneseek.request import HIGHEST, LOWEST
from sceneseek.tables import first_few
from sceneseek.vectors import Floats

Aggregation = Literal["mean", "median", "majority"]


@dataclass(frozen=True)
class Ratings:
    """P rated pairs of N images and M captions.

    Attributes:
        label: name of the file.
        names, paths: (N) names of the images, relative to their folder, and paths of their files.
        captions: (M) the distinct texts of the captions.
        image, caption: int64 (P,), positions in these.
        target: float32 (P,), in [0, 1].
        weight: float32 (P,), number of raters or votes.
        scores: float32 (P, R), each rater's score scaled to [0, 1], NaN if missing; R is 0 for crowd votes.
        own: bool (P,), whether the caption was written for this image.
        left_out: number of rows left out, by reason.
        merged: number of rows merged into others, by reason.
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
        """Return the pairs at these positions, with another `left_out`; images and captions stay the same."""
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


log = logging.getLogger(__name__)

NO_IMAGE = "of images not in the folder"

Pair = tuple[str, str]  # an image's name and a caption's text
Values = tuple[int, ...]  # a row's scores, or its counts of votes for yes and no


@dataclass(frozen=True, slots=True)
class RatingRows:
    """The rows of a file by pair, in order of first occurrence."""

    label: str
    where: Path | str
    paths: dict[str, Path] = field(default_factory=dict)
    pairs: dict[Pair, list[Values]] = field(default_factory=dict)
    own: set[Pair] = field(default_factory=set)
    left_out: dict[str, int] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)

    def add(self, pair: Pair, path: Path, values: Values, own: bool) -> None:
        """Add a row of values for a pair."""
        self.paths.setdefault(pair[0], path)
        self.pairs.setdefault(pair, []).append(values)
        if own:
            self.own.add(pair)

    def merge(self, reason: str, names: list[str]) -> None:
        """Count and log rows that were merged into others."""
        if names:
            self.merged[reason] = len(names)
            log.warning("%s: %d %s: %s", self.where, len(names), reason, first_few(sorted(set(names))))

    def leave_out(self, rows: int, unknown: Mapping[str, list[str]], skip: bool) -> None:
        """Count and log rows with unknown images or captions; raise DataError unless `skip` is set."""
        messages = {
            reason: f"{len(names):,} {reason} ({first_few(sorted(set(names)))})"
            for reason, names in unknown.items()
            if names
        }
        if messages and not skip:
            count = sum(len(names) for names in unknown.values())
            raise DataError(
                f"{self.where}: {count:,} of {rows:,} ratings cannot be used: {', '.join(messages.values())}",
                "repair them, or pass --skip-unknown to leave them out",
            )
        for reason, message in messages.items():
            self.left_out[reason] = len(unknown[reason])
            log.warning("%s: left out ratings: %s", self.where, message)


def pooled(ratings: Sequence[Ratings], aggregate: Aggregation = "mean") -> Ratings:
    """Join several files of scores; a pair gets the scores of all its raters.

    Args:
        ratings: ratings by experts or from feedback; images are identified by name, captions by text.
        aggregate: see `read_expert`.

    Raises:
        DataError: an image name refers to different files, or all ratings are equal.
        ValueError: `ratings` is empty or contains crowd votes.
    """
    if not ratings or not all(one.scores.shape[1] for one in ratings):
        raise ValueError("pooling needs at least one file of ratings, all with scores")
    label = " + ".join(one.label for one in ratings)
    collected = RatingRows(label, label)
    left_out, merged = Counter[str](), Counter[str]()
    for one in ratings:
        for image, caption, scores, own in zip(one.image, one.caption, one.scores, one.own, strict=True):
            pair, path = (one.names[image], one.captions[caption]), one.paths[image]
            if collected.paths.get(pair[0], path) != path:
                raise DataError(
                    f"{label}: {pair[0]} is {collected.paths[pair[0]]} and {path}",
                    "name the images of all ratings relative to the same folder",
                )
            merged["rated in several files"] += pair in collected.pairs
            levels = np.rint(scores[~np.isnan(scores)] * (HIGHEST - LOWEST) + LOWEST)
            collected.add(pair, path, tuple(int(level) for level in levels), bool(own))
        left_out.update(one.left_out)
        merged.update(one.merged)
    collected.left_out.update(left_out)
    collected.merged.update(+merged)  # without counts of zero
    return ratings_from_scores(collected, aggregate)


def ratings_from_scores(collected: RatingRows, aggregate: Aggregation, varied: bool = True) -> Ratings:
    """Build ratings from rows of scores."""
    by_pair = [[score for values in rows for score in values] for rows in collected.pairs.values()]
    levels = np.full((len(by_pair), max(map(len, by_pair), default=0)), np.nan)
    for row, scores in zip(levels, by_pair, strict=True):
        row[: len(scores)] = scores
    return build_ratings(
        collected,
        _to_unit(_aggregated(levels, aggregate)),
        (~np.isnan(levels)).sum(axis=1),
        _to_unit(levels),
        varied,
    )


def build_ratings(
    collected: RatingRows,
    target: npt.NDArray[np.float64],
    weight: npt.NDArray[Any],
    scores: npt.NDArray[np.float64],
    varied: bool = True,
) -> Ratings:
    """Build ratings from targets, weights and scores; with `varied`, equal ratings are an error."""
    if not collected.pairs:
        raise DataError(
            f"{collected.where} has no rating of a known image and caption", "check --images and --captions"
        )
    narrow = target.astype(np.float32)
    if varied and (narrow == narrow[0]).all():
        raise DataError(f"all ratings in {collected.where} are equal", "training needs ratings of good and bad matches")
    images = {name: i for i, name in enumerate(collected.paths)}
    captions = {text: i for i, text in enumerate(dict.fromkeys(text for _, text in collected.pairs))}
    return Ratings(
        label=collected.label,
        names=tuple(collected.paths),
        paths=tuple(collected.paths.values()),
        captions=tuple(captions),
        image=np.array([images[name] for name, _ in collected.pairs], np.int64),
        caption=np.array([captions[text] for _, text in collected.pairs], np.int64),
        target=narrow,
        weight=weight.astype(np.float32),
        scores=scores.astype(np.float32),
        own=np.array([pair in collected.own for pair in collected.pairs], np.bool_),
        left_out=collected.left_out,
        merged=collected.merged,
    )


def _aggregated(levels: npt.NDArray[np.float64], aggregate: Aggregation) -> npt.NDArray[np.float64]:
    """Combine the raters' levels (P, R), NaN if missing, to one level per pair (P,)."""
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
