"""Do a bundle's scores agree with human ratings? Its own graphs score the rated pairs; nothing is trained.

The document that `RatingsReport.to_json` gives is that of `sceneseek_evaluation.agreement` for the experts' ratings,
and beside it::

    crowd             the same for crowd labels, or null
    seen_in_training  true: the bundle's head was fitted to a given file, so these are no held-out figures;
                      false: the bundle names what its head was fitted to, and no given file is among it;
                      null: its head was fitted to ratings that it does not name
    left_out, merged  rows of the ratings, by reason
    n_skipped_images  rated images that cannot be used; `skipped` names each: path, reason, what
    bundle, head      the bundle's fingerprint and its head's kind
    bootstrap         replicates and seed
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sceneseek.bundle import Bundle, Head
from sceneseek.errors import DataError, one_line
from sceneseek.files import sha256_of
from sceneseek.payload import path_fields
from sceneseek.reranker import Reranker
from sceneseek.runtime import Device
from sceneseek.tables import first_few
from sceneseek_evaluation.agreement import FIGURES, Agreement, Rated, measure_agreement, require_scipy
from sceneseek_evaluation.figures import BOOTSTRAP, Bootstrap, Figure, table
from sceneseek_evaluation.pairs import EncodedImages, encode_images, encode_texts, score_pairs
from sceneseek_evaluation.ratings import Ratings
from sceneseek_indexer.walk import Skipped

CROWD = "crowd."


def ratings_figures(with_crowd: bool) -> tuple[str, ...]:
    """The names of a report's figures; those of crowd labels begin with ``crowd.``."""
    return (*FIGURES, *(f"{CROWD}{name}" for name in FIGURES)) if with_crowd else FIGURES


@dataclass(frozen=True)
class Measured:
    """Ratings of one file: how well the scores agree with them, and what was left out."""

    label: str
    agreement: Agreement
    left_out: dict[str, int]
    merged: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.agreement.to_json(), "left_out": self.left_out, "merged": self.merged}

    def lines(self) -> list[str]:
        """What was measured, as a person reads it."""
        found = self.agreement
        counted = f"{self.label}: {found.pairs:,} pairs of {found.images:,} images"
        lines = [f"{counted}, {found.published:,} of them counted for Kendall's tau as published"]
        for what, counts in (("left out", self.left_out), ("merged", self.merged)):
            if counts:
                lines.append(f"  {what}: " + ", ".join(f"{count:,} {reason}" for reason, count in counts.items()))
        return lines


@dataclass(frozen=True)
class RatingsReport:
    """What an evaluation found.

    Attributes:
        expert: of the experts' ratings.
        crowd: of crowd labels, if they were given.
        skipped: rated images that cannot be used.
        seen: whether the head was fitted to a given file; None where the bundle does not say.
        validation: the figures that the bundle itself carries of its head, and how they were obtained.
        head: the head's kind.
        bundle: fingerprint of the bundle.
        bootstrap: how the intervals were found.
    """

    expert: Measured
    crowd: Measured | None
    skipped: Sequence[Skipped]
    seen: bool | None
    validation: dict[str, Any]
    head: str
    bundle: str
    bootstrap: Bootstrap

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure, by the names of `ratings_figures`."""
        of_crowd = self.crowd.agreement.figures if self.crowd else {}
        return {**self.expert.agreement.figures, **{f"{CROWD}{name}": figure for name, figure in of_crowd.items()}}

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with stable keys; see the module's docstring."""
        return {
            **self.expert.to_json(),
            "crowd": self.crowd.to_json() if self.crowd else None,
            "seen_in_training": self.seen,
            "n_skipped_images": len(self.skipped),
            "skipped": [
                {**path_fields(s.relative), "reason": s.reason, "what": one_line(s.what)} for s in self.skipped
            ],
            "bundle": self.bundle,
            "head": self.head,
            "bootstrap": {"replicates": self.bootstrap.replicates, "seed": self.bootstrap.seed},
        }

    def lines(self) -> list[str]:
        """As a person reads it."""
        measured = [self.expert] if self.crowd is None else [self.expert, self.crowd]
        lines = [f"bundle {self.bundle[:12]}, head {self.head}", *(line for one in measured for line in one.lines())]
        if self.skipped:
            named = [f"{path_fields(s.relative)['path']} ({s.what})" for s in self.skipped]
            lines.append(f"{len(named):,} images cannot be used and were left out: {one_line(first_few(named))}")
        lines += table(self.figures)
        if self.seen is not False:
            lines.append(self._not_held_out())
        return lines

    def _not_held_out(self) -> str:
        if self.seen:
            what = "these are not held-out figures: the bundle's head was fitted to these ratings"
        else:
            what = "these may not be held-out figures: the bundle does not name the ratings its head was fitted to"
        return f"note: {what}; see its cross-validated ones in manifest.json under head.validation{self._carried()}"

    def _carried(self) -> str:
        """The head's own figures in brackets: its strictest, or those of a curve that came with a joint space."""
        strict = self.validation.get("cross-validated, grouped by", {}).get("image and caption", {})
        found = {**self.validation, **{name: figure.get("value") for name, figure in strict.items() if name in FIGURES}}
        printed = [f"{name} {found[name]:.3f}" for name in FIGURES if isinstance(found.get(name), float)]
        return f" ({', '.join(printed)})" if printed else ""


def evaluate_ratings(
    bundle: Bundle,
    expert: Ratings,
    crowd: Ratings | None = None,
    files: Collection[Path] = (),
    device: Device = "auto",
    bootstrap: Bootstrap = BOOTSTRAP,
) -> RatingsReport:
    """Score the rated pairs with the bundle's graphs and measure the agreement.

    The files that the ratings were read from tell whether the head was fitted to one of them.

    Raises:
        DataError: no rated image can be used, a caption cannot be searched, or scipy is not installed.
    """
    require_scipy()
    given = [expert] if crowd is None else [expert, crowd]
    paths = {name: path for ratings in given for name, path in zip(ratings.names, ratings.paths, strict=True)}
    images = encode_images(bundle, paths, device)
    measured = [_measure(bundle, ratings, images, device, bootstrap) for ratings in given]
    manifest = bundle.manifest
    return RatingsReport(
        expert=measured[0],
        crowd=None if crowd is None else measured[1],
        skipped=images.skipped,
        seen=seen_in_training(manifest.head, {sha256_of(path) for path in files}),
        validation=manifest.head.validation,
        head=manifest.head.kind,
        bundle=manifest.fingerprints.bundle,
        bootstrap=bootstrap,
    )


def seen_in_training(head: Head, hashes: Collection[str]) -> bool | None:
    """Whether a head was fitted to one of these files, by the sha256 under ``trained_on`` of its validation.

    None where that is not there though the head was fitted to human ratings.
    """
    named = head.validation.get("trained_on")
    if named is None:
        return None if head.validation.get("source") == "human ratings" or head.kind != "cosine" else False
    return any(file["sha256"] in hashes for file in named)


def _measure(bundle: Bundle, ratings: Ratings, images: EncodedImages, device: Device, bootstrap: Bootstrap) -> Measured:
    """The agreement over the pairs whose image could be encoded."""
    rows = np.array([images.row.get(name, -1) for name in ratings.names], np.int64)[ratings.image]
    usable = rows >= 0
    if not usable.any():
        raise DataError(f"no image that {ratings.label} rates can be used", "check --images")
    texts = encode_texts(bundle, ratings.captions, device)
    scores = score_pairs(Reranker(bundle), images.vectors, texts, rows[usable], ratings.caption[usable])
    rated = Rated(
        predicted=scores.astype(np.float64),
        target=ratings.target[usable].astype(np.float64),
        scores=ratings.scores[usable].astype(np.float64),
        own=ratings.own[usable],
        image=rows[usable],
    )
    lost = int((~usable).sum())
    left_out = {**ratings.left_out, **({"of images that cannot be used": lost} if lost else {})}
    return Measured(ratings.label, measure_agreement(rated, bootstrap), left_out, ratings.merged)
