"""Evaluate the agreement of a bundle's scores with human ratings; the bundle's own graphs score the rated pairs.

`RatingsReport.to_json` returns the document of `sceneseek_evaluation.agreement` for the expert ratings, and::

    crowd             the same for crowd labels, or null
    seen_in_training  true: the bundle's head was fitted to a given file, so the figures are not held-out;
                      false: the bundle lists the files that its head was fitted to, and no given file is among them;
                      null: its head was fitted to ratings that it does not list
    left_out, merged  number of rows of the ratings, by reason
    n_skipped_images  number of rated images that cannot be used; `skipped` lists each: path, reason, what
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
    """Return the names of a report's figures; those of crowd labels begin with ``crowd.``."""
    return (*FIGURES, *(f"{CROWD}{name}" for name in FIGURES)) if with_crowd else FIGURES


@dataclass(frozen=True)
class Measured:
    """The agreement with the ratings of one file, and the rows left out or merged."""

    label: str
    agreement: Agreement
    left_out: dict[str, int]
    merged: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.agreement.to_json(), "left_out": self.left_out, "merged": self.merged}

    def lines(self) -> list[str]:
        """The lines about the ratings in the printed report."""
        found = self.agreement
        counted = f"{self.label}: {found.pairs:,} pairs of {found.images:,} images"
        lines = [f"{counted}, {found.published:,} of them counted for Kendall's tau as published"]
        for what, counts in (("left out", self.left_out), ("merged", self.merged)):
            if counts:
                lines.append(f"  {what}: " + ", ".join(f"{count:,} {reason}" for reason, count in counts.items()))
        return lines


@dataclass(frozen=True)
class RatingsReport:
    """The result of a ratings evaluation.

    Attributes:
        expert: agreement with expert ratings.
        crowd: agreement with crowd labels; None if not given.
        skipped: rated images that cannot be used.
        seen: whether the head was fitted to a given file; None if unknown.
        validation: the figures of the head that the bundle contains, with their provenance.
        head: the head's kind.
        bundle: fingerprint of the bundle.
        bootstrap: the bootstrap of the intervals.
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
        """All figures, by the names of `ratings_figures`."""
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
        """The lines of the printed report."""
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
            what = "these may not be held-out figures: the bundle does not list the ratings its head was fitted to"
        return f"note: {what}; for cross-validated figures see head.validation in manifest.json{self._validated()}"

    def _validated(self) -> str:
        """The head's own figures in brackets: grouped by image and caption, or those of a joint space's curve."""
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

    `files` are those of the ratings, to check whether the head was fitted to one of them.

    Raises:
        DataError: no rated image can be used, a caption is not a valid query, or scipy is not installed.
    """
    require_scipy()
    sources = [expert] if crowd is None else [expert, crowd]
    paths = {name: path for ratings in sources for name, path in zip(ratings.names, ratings.paths, strict=True)}
    images = encode_images(bundle, paths, device)
    measured = [_measure(bundle, ratings, images, device, bootstrap) for ratings in sources]
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

    None if the head was fitted to human ratings without ``trained_on``.
    """
    trained_on = head.validation.get("trained_on")
    if trained_on is None:
        return None if head.validation.get("source") == "human ratings" or head.kind != "cosine" else False
    return any(file["sha256"] in hashes for file in trained_on)


def _measure(bundle: Bundle, ratings: Ratings, images: EncodedImages, device: Device, bootstrap: Bootstrap) -> Measured:
    """Measure the agreement over the pairs whose image could be encoded."""
    rows = np.array([images.row.get(name, -1) for name in ratings.names], np.int64)[ratings.image]
    usable = rows >= 0
    if not usable.any():
        raise DataError(f"none of the images rated in {ratings.label} can be used", "check --images")
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
