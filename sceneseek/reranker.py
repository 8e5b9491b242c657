"""Reranking of candidates: scores in [0, 1], order, pages, and which results match.

`Reranker` runs `score.onnx`. A head reads up to three inputs per candidate: its `similarity` (the joint-space cosine,
which the engine has already computed), its joint vector and its head vector. The graph's inputs determine which vectors
are requested from the store: reading 100 vectors from the engine takes as long as finding them.

`Ranking` reads the nearest neighbours in blocks. The first block is the shortlist of the query. Each further block
reaches four times as deep, and its new neighbours are reranked among themselves, so results already returned keep their
ranks: pages show each image exactly once, which reranking an ever larger shortlist would not guarantee. `top_results`
folds near-duplicates: the best image of each group represents the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sceneseek.bundle import Bundle, MatchThreshold
from sceneseek.filters.conditions import field_path
from sceneseek.payload import similar_images, values_at
from sceneseek.request import MAX_SHORTLIST
from sceneseek.runtime import open_session
from sceneseek.vectors import Candidates, Floats

if TYPE_CHECKING:
    from sceneseek.store import Collection, Record

# The typical score of an image for a word that it does not show.
UNRELATED = np.float32(0.02)
# Lower scores are raised to this before their logarithm is taken.
_MIN_SCORE = np.float32(1e-6)
# Each block reaches this many times as deep as the last.
_BLOCK_GROWTH = 4
# Payloads read in addition to those of the results, so that near-duplicates rarely need a second call.
_EXTRA_PAYLOADS = 5
# Each further read is this many times as long: three reads suffice for a block of mostly near-duplicates.
_READ_GROWTH = 4


class Reranker:
    """`score.onnx` of a bundle. Thread-safe.

    Attributes:
        reads: the inputs of the head, out of ``similarity``, ``image_joint``, ``image_head``, ``text_joint`` and
            ``text_head``.
    """

    def __init__(self, bundle: Bundle) -> None:
        # One CPU thread: the graph takes microseconds, less than a transfer to a GPU or waking a second thread.
        self._session = open_session(bundle.score_graph, "cpu", threads=1)
        self.reads = frozenset(self._session.inputs)

    def vectors_read(self) -> tuple[str, ...]:
        """The named vectors of each candidate that `score` needs."""
        return tuple(
            vector for name, vector in (("image_joint", "joint"), ("image_head", "head")) if name in self.reads
        )

    def score(self, candidates: Candidates, text_joint: Floats, text_head: Floats) -> Floats:
        """Scores (N,) of the candidates for one text, `text_joint` (D,) and `text_head` (H_t,)."""
        if not len(candidates):
            return np.zeros(0, dtype=np.float32)
        available = {
            "similarity": candidates.similarity,
            "image_joint": candidates.joint,
            "image_head": candidates.head,
            "text_joint": text_joint,
            "text_head": text_head,
        }
        feed = {name: vectors for name in self.reads if (vectors := available[name]) is not None}
        return self._session.run(feed)["score"]


def combined(scores: Sequence[tuple[float, Floats]]) -> Floats:
    """Combined scores (N,) for several texts, from (weight, scores (N,)) pairs.

    The weighted geometric mean of the scores for texts of positive weight: an image must match all of them. For each
    text of negative weight that an image matches better than `UNRELATED`, the mean is multiplied by (`UNRELATED` /
    score) to the power of half the weight's magnitude. The ratio to an unrelated image is what counts, since scores for
    single words are low. docs/explanation/scores.md shows the effect.

    """
    positive = [(weight, each) for weight, each in scores if weight >= 0]
    if len(scores) == 1:
        return positive[0][1]
    total = sum(weight for weight, _ in positive)
    shares = [np.float32(weight / total if total else 1) for weight, _ in positive]
    logarithm = sum(
        share * np.log(np.maximum(each, _MIN_SCORE)) for share, (_, each) in zip(shares, positive, strict=True)
    )
    for weight, each in scores:
        if weight < 0:
            logarithm = logarithm + np.float32(weight / 2) * np.log(np.maximum(each / UNRELATED, np.float32(1)))
    return np.exp(np.asarray(logarithm, np.float32))


def best_first(candidates: Candidates, scores: Floats) -> npt.NDArray[np.int64]:
    """Indices (N,) that sort candidates by descending score, and equal scores by similarity."""
    order: npt.NDArray[np.int64] = np.lexsort((-candidates.similarity, -scores))
    return order


def matches(rule: MatchThreshold | None, score: float | None) -> bool | None:
    """Whether a result with this (float32) score matches; None without a score or a threshold."""
    if rule is None or score is None:
        return None
    return score >= float(np.float32(rule.threshold))


def marks(rule: MatchThreshold | None, scores: Floats) -> npt.NDArray[np.bool_] | None:
    """Which results match, bool (N,), by their scores (N,); None if the bundle has no threshold.

    Args:
        rule: `manifest.head.match` of the bundle.
        scores: from the bundle's `Reranker`.
    """
    return None if rule is None else np.array([matches(rule, score) for score in scores.tolist()], dtype=bool)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One image of a ranking.

    Attributes:
        id: id of the point.
        score: from the head, in [0, 1]; None if the query has no text.
        similarity: cosine to the query in the joint space.
        neighbour_rank: rank among the nearest neighbours, from 1, before reranking.
        joint: joint vector (D,); None if candidates were read without vectors.
    """

    id: str
    score: float | None
    similarity: float
    neighbour_rank: int
    joint: Floats | None = field(default=None, compare=False, repr=False)


class Ranking:
    """The images of one answer, best first.

    Args:
        candidates: returns the given number of nearest neighbours, nearest first.
        score: returns the scores (N,) of candidates; None if the query has no text.
        by_score: order by score rather than by similarity.
        first: number of neighbours in the first block.
        min_score: images with a lower score are left out, and only the first block is read.
        rule: the threshold of a match.

    Attributes:
        scored: number of neighbours read so far.
        matching: how many of them match; None if unknown.
        best: the highest score so far; initially 0.
    """

    def __init__(
        self,
        candidates: Callable[[int], Candidates],
        score: Callable[[Candidates], Floats | None],
        by_score: bool,
        first: int,
        min_score: float | None = None,
        rule: MatchThreshold | None = None,
    ) -> None:
        self._candidates, self._score, self._by_score = candidates, score, by_score
        self._first, self._min_score, self._rule = first, min_score, rule
        self._complete = False
        self._returned = 0
        self.scored = 0
        self.matching = None if rule is None else 0
        self.best = 0.0

    def may_have_more(self, read: int) -> bool:
        """Whether there may be more images after the first `read`."""
        return not self._complete or self._returned > read

    def blocks(self) -> Iterator[list[Ranked]]:
        """Yield blocks of images, each best first; each block is searched for on demand."""
        seen: set[str] = set()
        depth = self._first
        while not self._complete:
            candidates = self._candidates(depth)
            self._complete = len(candidates) < depth or depth >= MAX_SHORTLIST or self._min_score is not None
            block = self._ordered(candidates, seen)
            seen.update(candidates.ids)
            self.scored = len(seen)
            self._returned += len(block)
            yield block
            depth = min(_BLOCK_GROWTH * depth, MAX_SHORTLIST)

    def _ordered(self, candidates: Candidates, seen: set[str]) -> list[Ranked]:
        scores = self._score(candidates)
        order: Iterable[int] = range(len(candidates))
        if scores is not None:
            self.best = max(self.best, float(scores.max(initial=0.0)))
            if self.matching is not None:
                fresh = [
                    score
                    for identity, score in zip(candidates.ids, scores.tolist(), strict=True)
                    if identity not in seen
                ]
                self.matching += sum(bool(matches(self._rule, score)) for score in fresh)
            if self._by_score:
                order = best_first(candidates, scores).tolist()
            if self._min_score is not None:
                order = [i for i in order if scores[i] >= self._min_score]
        return [
            Ranked(
                candidates.ids[i],
                None if scores is None else float(scores[i]),
                float(candidates.similarity[i]),
                i + 1,
                None if candidates.joint is None else candidates.joint[i],
            )
            for i in order
            if candidates.ids[i] not in seen
        ]


def top_results(
    collection: Collection,
    blocks: Iterable[list[Ranked]],
    wanted: int,
    keep_duplicates: bool = False,
    like: Sequence[str] = (),
    deadline: float | None = None,
) -> list[tuple[Ranked, Record]]:
    """The first `wanted` images, in order, without near-duplicates of an earlier image.

    Args:
        collection: provides the payloads.
        blocks: the images, best first; blocks are consumed only as needed.
        wanted: maximum number of results.
        keep_duplicates: keep near-duplicates of an earlier image.
        like: ids of query images; these are left out, and their near-duplicates too unless duplicates are kept.
        deadline: of each read, see `Collection.retrieve`.
    """
    chosen: list[tuple[Ranked, Record]] = []
    groups: set[str] = set()
    size = wanted if keep_duplicates else wanted + min(wanted, _EXTRA_PAYLOADS)
    unread = list(like)
    for block in blocks:
        ranked = {image.id: image for image in block if image.id not in like}
        ids = iter([*unread, *ranked])
        unread = []
        while len(chosen) < wanted and (batch := list(itertools.islice(ids, size))):
            for record in collection.retrieve(batch, deadline):
                group = similar_images(record.payload)[0]
                if record.id not in like and (keep_duplicates or group is None or group not in groups):
                    chosen.append((ranked[record.id], record))
                if group is not None:
                    groups.add(group)
            size *= _READ_GROWTH
        if len(chosen) >= wanted:
            break
    return chosen[:wanted]


def sorted_by_field(images: Sequence[tuple[Ranked, Record]], sort: str) -> list[tuple[Ranked, Record]]:
    """The images sorted (stably) by the values of a field; images without a value come last.

    Args:
        images: the images and their records, best first.
        sort: name of the field; a leading ``-`` sorts in descending order.
    """
    path = field_path(sort.removeprefix("-"))
    values = [next(values_at(record.payload, path), None) for _, record in images]
    # Numbers sort before texts, since the two cannot be compared.
    keys = {
        i: (isinstance(value, str), value) for i, value in enumerate(values) if isinstance(value, str | int | float)
    }
    having = sorted(keys, key=keys.__getitem__, reverse=sort.startswith("-"))
    return [images[i] for i in having] + [each for i, each in enumerate(images) if i not in keys]
