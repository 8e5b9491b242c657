"""Human ratings of pairs of an image and a caption: one target in [0, 1] for each pair, and what was left out.

`rating_files` adds the rows of a file to a `Found`, from which `scored` and `assembled` make `Ratings`; `pooled` joins
several files.
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


log = logging.getLogger(__name__)

NO_IMAGE = "of images not in the folder"

Pair = tuple[str, str]  # an image's name and a caption's text
Values = tuple[int, ...]  # a row's scores, or its counts of votes for yes and no


@dataclass(frozen=True, slots=True)
class Found:
    """Pairs in the order in which they are first met, each with what was said about it."""

    label: str
    where: Path | str
    paths: dict[str, Path] = field(default_factory=dict)
    pairs: dict[Pair, list[Values]] = field(default_factory=dict)
    own: set[Pair] = field(default_factory=set)
    left_out: dict[str, int] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)

    def add(self, pair: Pair, path: Path, values: Values, own: bool) -> None:
        """A row of values for a pair."""
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
    found = Found(label, label)
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
    return scored(found, aggregate)


def scored(found: Found, aggregate: Aggregation, varied: bool = True) -> Ratings:
    """Ratings whose values are scores."""
    given = [[score for values in rows for score in values] for rows in found.pairs.values()]
    levels = np.full((len(given), max(map(len, given), default=0)), np.nan)
    for row, scores in zip(levels, given, strict=True):
        row[: len(scores)] = scores
    return assembled(
        found,
        _to_unit(_aggregated(levels, aggregate)),
        (~np.isnan(levels)).sum(axis=1),
        _to_unit(levels),
        varied,
    )


def assembled(
    found: Found,
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
