"""Evaluate how well scores separate queries that should find a picture from queries that should not.

Four kinds of queries are searched for in one collection of images:

    present   a caption whose image is in the collection
    absent    the same caption without that image and similar ones (`NEAR`)
    foreign   texts unrelated to the collection, given by the user
    nonsense  texts without meaning, see `draw_nonsense`

A query has a match if its best score reaches the threshold (`sceneseek.bundle.MatchThreshold`). The figures::

    present.match_rate           share of captions with a match
    own.match_rate               share of captions whose own image is marked as a match, of those that find it among the
                                 first five results
    absent.false_match_rate      share of absent queries with a match; likewise foreign and nonsense. For ``absent`` it
                                 is not an error rate, since another picture may truly match the caption
    absent.auc                   how often a present query has a higher best score than an absent query; likewise
                                 foreign and nonsense. It needs no threshold

Captions with a language are also measured by language (`sceneseek_evaluation.figures`), with the figures that need
captions only, `LANGUAGE_FIGURES`. Shortlists are exact, and as long as those of a search. Intervals are from the
bootstrap by image, or by text for queries without an image. A figure without queries and a rate without a threshold are
not defined.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sceneseek.bundle import Bundle, MatchThreshold
from sceneseek.captions import Caption
from sceneseek.errors import DataError
from sceneseek.progress import Progress
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST
from sceneseek.reranker import Reranker, best_first, marks
from sceneseek.runtime import Device
from sceneseek.vectors import Candidates, Floats, Vectors
from sceneseek_evaluation.figures import (
    BOOTSTRAP,
    Bootstrap,
    Figure,
    Positions,
    json_by_language,
    languages_of,
    measure_by_language,
    table,
    table_by_language,
)
from sceneseek_evaluation.pairs import encode_images, encode_texts, searchable

Kind = Literal["present", "absent", "foreign", "nonsense"]
WITHOUT: tuple[Kind, ...] = ("absent", "foreign", "nonsense")
RATE, FALSE_RATE, AUC = "match_rate", "false_match_rate", "auc"
ABSENCE_FIGURES = (
    f"present.{RATE}",
    f"own.{RATE}",
    *(f"{kind}.{FALSE_RATE}" for kind in WITHOUT),
    *(f"{kind}.{AUC}" for kind in WITHOUT),
)
LANGUAGE_FIGURES = (f"present.{RATE}", f"own.{RATE}", f"absent.{FALSE_RATE}", f"absent.{AUC}")
# Minimum joint-space cosine of two images with similar content; near-duplicates are far above it.
NEAR = 0.9
NONSENSE = 400


@dataclass(frozen=True)
class Asked:
    """Q queries of all kinds and their scores.

    Attributes:
        kind: (Q,) kind of each query, see the module's docstring.
        best: (Q,) best score of each query.
        own: (Q,) score of the caption's own image if it is among the first `DEFAULT_K` results, else NaN.
        group: (Q,) group for the bootstrap: the caption's image, or the text.
        language: (Q,) language of the caption; empty for other texts, and if unknown.
        images: number of images in the collection.
        missing: number of the captions' images that cannot be used.
    """

    kind: npt.NDArray[np.str_]
    best: Floats
    own: Floats
    group: Positions
    language: npt.NDArray[np.str_]
    images: int
    missing: int

    def of(self, kind: Kind) -> Floats:
        """Return the best scores of one kind of queries."""
        scores: Floats = self.best[self.kind == kind]
        return scores


@dataclass(frozen=True)
class AbsenceReport:
    """The result of an absence evaluation.

    Attributes:
        figures: the figures `ABSENCE_FIGURES`, and `LANGUAGE_FIGURES` for each language, by name.
        threshold: minimum score of a match; None if the bundle has no threshold.
        queries: number of queries, by kind.
        languages: number of captions searched for, by language; 0 if none of their images can be used.
        images: number of images in the collection.
        missing: number of the captions' images that cannot be used.
        bundle: fingerprint of the bundle.
        bootstrap: the bootstrap of the intervals.
        seed: seed of the nonsense.
    """

    figures: dict[str, Figure]
    threshold: float | None
    queries: dict[str, int]
    languages: dict[str, int]
    images: int
    missing: int
    bundle: str
    bootstrap: Bootstrap
    seed: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with stable keys."""
        return {
            **{name: self.figures[name].to_json() for name in ABSENCE_FIGURES},
            "languages": json_by_language(self.figures, self.languages, LANGUAGE_FIGURES),
            "threshold": self.threshold,
            "n_queries": self.queries,
            "n_images": self.images,
            "n_missing_images": self.missing,
            "near": NEAR,
            "seed": self.seed,
            "bundle": self.bundle,
            "bootstrap": {"replicates": self.bootstrap.replicates, "seed": self.bootstrap.seed},
        }

    def lines(self) -> list[str]:
        """The lines of the printed report."""
        threshold = "the bundle has no threshold" if self.threshold is None else f"a match from {self.threshold:g} on"
        queries = ", ".join(f"{count:,} {kind}" for kind, count in self.queries.items())
        lines = [
            f"{self.images:,} images, bundle {self.bundle[:12]}: {threshold}; queries: {queries}",
            *table({name: self.figures[name] for name in ABSENCE_FIGURES}),
        ]
        if self.languages:
            lines += ["", *table_by_language(self.figures, self.languages, LANGUAGE_FIGURES)]
        if self.missing:
            lines.append(f"{self.missing:,} images of the captions file cannot be used and were left out")
        return lines


def evaluate_absence(
    bundle: Bundle,
    images: Path,
    captions: Sequence[Caption],
    foreign: Sequence[str] = (),
    seed: int = 0,
    match: MatchThreshold | None = None,
    device: Device = "auto",
    bootstrap: Bootstrap = BOOTSTRAP,
) -> AbsenceReport:
    """Search for all kinds of queries, and measure how well `match`, or the bundle's threshold, separates them.

    Raises:
        DataError: see `ask`.
    """
    match = match or bundle.manifest.head.match
    asked = ask(bundle, images, captions, foreign, seed, device)
    spoken = asked.language[asked.kind == "present"]
    languages = {code: int((spoken == code).sum()) for code in languages_of(captions)}
    return AbsenceReport(
        figures=absence_figures(asked, match, bootstrap, languages),
        threshold=None if match is None else match.threshold,
        queries={kind: len(asked.of(kind)) for kind in ("present", *WITHOUT)},
        languages=languages,
        images=asked.images,
        missing=asked.missing,
        bundle=bundle.manifest.fingerprints.bundle,
        bootstrap=bootstrap,
        seed=seed,
    )


def ask(
    bundle: Bundle,
    images: Path,
    captions: Sequence[Caption],
    foreign: Sequence[str] = (),
    seed: int = 0,
    device: Device = "auto",
) -> Asked:
    """Search the captions' images, in the folder `images`, for all kinds of queries.

    Raises:
        DataError: fewer than two of the images can be used, or a text is not a valid query.
    """
    for text in (*(caption.text for caption in captions), *foreign):
        searchable(text)  # checked before encoding images, which takes minutes
    wanted = dict.fromkeys(caption.image for caption in captions)
    encoded = encode_images(bundle, {name: images / name for name in wanted}, device)
    if len(encoded.row) < 2:
        raise DataError("a single image is not enough to measure absence", "give captions of more images")
    written = [caption for caption in captions if caption.image in encoded.row]
    owner = np.array([encoded.row[caption.image] for caption in written], np.int64)
    nonsense = draw_nonsense(NONSENSE, [caption.text for caption in written], seed)
    texts = encode_texts(bundle, [*(caption.text for caption in written), *foreign, *nonsense], device)
    kinds = np.repeat(["present", "foreign", "nonsense"], [len(written), len(foreign), len(nonsense)])
    reranker, vectors, total = Reranker(bundle), encoded.vectors, len(kinds) + len(written)
    best, own = np.zeros(total, np.float32), np.full(total, np.nan, np.float32)
    everything = np.arange(len(vectors.joint))
    with Progress("searching", total, "texts") as progress:
        for query, kind in enumerate(kinds):
            image = int(owner[query]) if kind == "present" else None
            best[query], own[query] = _answer(reranker, vectors, texts, query, everything, image)
            progress.advance()
        for query, near in enumerate(owner):
            others = np.flatnonzero(vectors.joint @ vectors.joint[near] < NEAR)
            best[len(kinds) + query], _ = _answer(reranker, vectors, texts, query, others)
            progress.advance()
    alone = np.arange(len(kinds) - len(written)) + len(vectors.joint)
    language = np.array([caption.language for caption in written])
    return Asked(
        kind=np.concatenate([kinds, np.repeat("absent", len(written))]),
        best=best,
        own=own,
        group=np.concatenate([owner, alone, owner]),
        language=np.concatenate([language, np.repeat("", len(alone)), language]),
        images=len(encoded.row),
        missing=len(wanted) - len(encoded.row),
    )


def absence_figures(
    asked: Asked, match: MatchThreshold | None, bootstrap: Bootstrap, languages: Iterable[str] = ()
) -> dict[str, Figure]:
    """Return the figures `ABSENCE_FIGURES`, and `LANGUAGE_FIGURES` by language, with their intervals."""

    def measure(rows: Positions) -> dict[str, float]:
        kinds, best, own = asked.kind[rows], asked.best[rows], asked.own[rows]
        scores = {kind: best[kinds == kind] for kind in ("present", *WITHOUT)}
        found = {
            f"present.{RATE}": _rate(match, scores["present"]),
            f"own.{RATE}": _rate(match, own[~np.isnan(own)]),
        }
        found |= {f"{kind}.{FALSE_RATE}": _rate(match, scores[kind]) for kind in WITHOUT}
        return found | {f"{kind}.{AUC}": area_under_curve(scores["present"], scores[kind]) for kind in WITHOUT}

    every = measure_by_language(measure, asked.language, languages, LANGUAGE_FIGURES)
    return bootstrap.figures(every(np.arange(len(asked.best))), every, asked.group)


def area_under_curve(above: Floats, below: Floats) -> float:
    """Return the area under the receiver operating characteristic (Hanley and McNeil, Radiology 143, 1982).

    It is the probability that a number of `above` is larger than one of `below`; ties count half. NaN if either is
    empty.
    """
    if not len(above) or not len(below):
        return math.nan
    ordered = np.sort(below)
    beaten = np.searchsorted(ordered, above, "left") + np.searchsorted(ordered, above, "right")
    return float(beaten.mean() / (2 * len(below)))


def _rate(match: MatchThreshold | None, scores: Floats) -> float:
    marked = marks(match, scores)
    return math.nan if marked is None or not len(marked) else float(marked.mean())


def _answer(
    reranker: Reranker, images: Vectors, texts: Vectors, query: int, collection: Positions, own: int | None = None
) -> tuple[float, float]:
    """Return a query's best score in a collection, and that of its own image if it is among the first `DEFAULT_K`."""
    similarity: Floats = images.joint[collection] @ texts.joint[query]
    nearest = np.argsort(-similarity, kind="stable")[:DEFAULT_SHORTLIST]
    rows = collection[nearest]
    candidates = Candidates(
        ids=[str(row) for row in rows],
        similarity=similarity[nearest],
        joint=images.joint[rows],
        head=images.head[rows],
    )
    scores = reranker.score(candidates, texts.joint[query], texts.head[query])
    if not len(scores):
        return 0.0, math.nan
    first = best_first(candidates, scores)[:DEFAULT_K]
    place = first[rows[first] == own] if own is not None else first[:0]
    return float(scores[first[0]]), float(scores[place[0]]) if len(place) else math.nan


_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_SIGNS = ".,;:!?#$%&*+-/=@^_~"


def draw_nonsense(count: int, texts: Sequence[str], seed: int) -> list[str]:
    """Return random queries without meaning, which no picture can match.

    Four kinds alternate: words of random letters; runs along a row of the keyboard; numbers and signs; and random words
    of real captions, which do not describe a scene together.

    Args:
        count: number of queries.
        texts: texts with the words for the fourth kind, which is omitted without any word.
        seed: the same arguments give the same queries.
    """
    rng = np.random.default_rng(seed)
    words = sorted({word for text in texts for word in text.lower().split() if word.isalpha()})
    kinds: list[Callable[[], str]] = [
        lambda: _words(rng, 1, 6, lambda: _characters(rng, string.ascii_lowercase, 3, 9)),
        lambda: _words(rng, 1, 3, lambda: _characters(rng, _ROWS[rng.integers(len(_ROWS))], 4, 11)),
        lambda: _words(rng, 1, 5, lambda: _characters(rng, string.digits, 1, 7) + _characters(rng, _SIGNS, 0, 2)),
    ]
    if words:
        kinds.append(lambda: _words(rng, 3, 8, lambda: words[rng.integers(len(words))]))
    return [kinds[i % len(kinds)]() for i in range(count)]


def _words(rng: np.random.Generator, least: int, most: int, word: Callable[[], str]) -> str:
    return " ".join(word() for _ in range(rng.integers(least, most + 1)))


def _characters(rng: np.random.Generator, alphabet: str, least: int, most: int) -> str:
    return "".join(alphabet[i] for i in rng.integers(0, len(alphabet), rng.integers(least, most + 1)))
