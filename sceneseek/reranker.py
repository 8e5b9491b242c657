"""Candidates to the results of one answer: scores in [0, 1], their order, the pages, and which of them match.

`Reranker` runs `score.onnx`. A head reads some of what is known of a candidate: its `similarity` (the joint-space
cosine, which the engine has computed already), its joint vector, its head vector. The graph's own inputs say which, so
the store is asked for no vector that the head would not look at: reading 100 vectors back from the engine takes as long
as finding them.

`Ranking` takes the nearest neighbours block by block. The first block holds the candidates that the search asked for.
Reading past it brings the next neighbours, reranked among themselves, so what has been seen stays where it was: the
pages of an answer show each image once and leave none out, which an order that is computed again over ever more
candidates would not. Each block reaches four times as deep as the one before. `leading` leaves near-duplicates out: of
each group the best image stands for itself and the others.
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

# What images score for a word that they do not show.
UNRELATED = np.float32(0.02)
# Of a score, so that it has a logarithm.
_LEAST = np.float32(1e-6)
_DEEPER = 4
# Payloads that are read beyond those of the results, so that near-duplicates among the first seldom cost another call.
_SPARE = 5
# Each further read is so many times as long: a block of mostly near-duplicates is read in three.
_LONGER = 4


class Reranker:
    """`score.onnx` of a bundle. Thread-safe.

    Attributes:
        reads: those of ``similarity``, ``image_joint``, ``image_head``, ``text_joint`` and ``text_head``
            that the head looks at.
    """

    def __init__(self, bundle: Bundle) -> None:
        # The CPU and one thread: the graph takes microseconds, less than a trip to a GPU or waking a second thread.
        self._session = open_session(bundle.score_graph, "cpu", threads=1)
        self.reads = frozenset(self._session.inputs)

    def vectors_read(self) -> tuple[str, ...]:
        """The named vectors of the collection that `score` needs of each candidate."""
        return tuple(
            vector for name, vector in (("image_joint", "joint"), ("image_head", "head")) if name in self.reads
        )

    def score(self, candidates: Candidates, text_joint: Floats, text_head: Floats) -> Floats:
        """Scores (N,) of the candidates for one text, `text_joint` (D,) and `text_head` (H_t,)."""
        if not len(candidates):
            return np.zeros(0, dtype=np.float32)
        offered = {
            "similarity": candidates.similarity,
            "image_joint": candidates.joint,
            "image_head": candidates.head,
            "text_joint": text_joint,
            "text_head": text_head,
        }
        feed = {name: vectors for name in self.reads if (vectors := offered[name]) is not None}
        return self._session.run(feed)["score"]


def combined(scores: Sequence[tuple[float, Floats]]) -> Floats:
    """Scores (N,) for several texts, from the weight of each and its own scores (N,).

    The geometric mean of the scores for texts of positive weight, by their weights: an image must match them all. Times
    (`UNRELATED` / score) to the power of half the weight for each text of negative weight that an image matches better
    than that: what counts is how much more it matches than an unrelated one, since scores for single words are low.
    docs/explanation/scores.md has what this does.
    """
    wanted = [(weight, each) for weight, each in scores if weight >= 0]
    if len(scores) == 1:
        return wanted[0][1]
    total = sum(weight for weight, _ in wanted)
    shares = [np.float32(weight / total if total else 1) for weight, _ in wanted]
    logarithm = sum(share * np.log(np.maximum(each, _LEAST)) for share, (_, each) in zip(shares, wanted, strict=True))
    for weight, each in scores:
        if weight < 0:
            logarithm = logarithm + np.float32(weight / 2) * np.log(np.maximum(each / UNRELATED, np.float32(1)))
    return np.exp(np.asarray(logarithm, np.float32))


def best_first(candidates: Candidates, scores: Floats) -> npt.NDArray[np.int64]:
    """(N,) places of the candidates in the order of an answer: by score, and equal scores by similarity."""
    order: npt.NDArray[np.int64] = np.lexsort((-candidates.similarity, -scores))
    return order


def matches(rule: MatchThreshold | None, score: float | None) -> bool | None:
    """Whether a result of this score, a float32's value, matches; None without a score, or where nobody can tell."""
    if rule is None or score is None:
        return None
    return score >= float(np.float32(rule.threshold))


def marks(rule: MatchThreshold | None, scores: Floats) -> npt.NDArray[np.bool_] | None:
    """Which results match, bool (N,), by their scores (N,); None where the bundle cannot tell.

    A query matches nothing if none of its results does.

    Args:
        rule: `manifest.head.match` of the bundle that scored.
        scores: of its `Reranker`.
    """
    return None if rule is None else np.array([matches(rule, score) for score in scores.tolist()], dtype=bool)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One image in the order of an answer.

    Attributes:
        id: the point's.
        score: the head's, in [0, 1]; None where there was no text to score for.
        similarity: cosine to the query in the joint space.
        neighbour: its place among the nearest neighbours, from 1, before rescoring.
        joint: its vector (D,), where the candidates brings vectors.
    """

    id: str
    score: float | None
    similarity: float
    neighbour: int
    joint: Floats | None = field(default=None, compare=False, repr=False)


class Ranking:
    """The images of one answer, best first.

    Args:
        candidates: the so many nearest neighbours, best first.
        score: their scores (N,), or None where there is no text.
        by_score: whether they come in the order of their scores, rather than that of their similarities.
        first: how many neighbours the first block has.
        least: images of a lower score are left out, and the first block is the only one.
        rule: what score matches.

    Attributes:
        scored: how many neighbours have been looked at.
        matching: how many of them match; None where that is not known.
        best: the highest score among them; 0 before there was one.
    """

    def __init__(
        self,
        candidates: Callable[[int], Candidates],
        score: Callable[[Candidates], Floats | None],
        by_score: bool,
        first: int,
        least: float | None = None,
        rule: MatchThreshold | None = None,
    ) -> None:
        self._candidates, self._score, self._by_score = candidates, score, by_score
        self._first, self._least, self._rule = first, least, rule
        self._complete = False
        self._ordered_so_far = 0
        self.scored = 0
        self.matching = None if rule is None else 0
        self.best = 0.0

    def may_go_on(self, read: int) -> bool:
        """Whether there may be more behind the first so many that were read."""
        return not self._complete or self._ordered_so_far > read

    def blocks(self) -> Iterator[list[Ranked]]:
        """Block after block, each best first, searched for when it is asked for."""
        seen: set[str] = set()
        depth = self._first
        while not self._complete:
            candidates = self._candidates(depth)
            self._complete = len(candidates) < depth or depth >= MAX_SHORTLIST or self._least is not None
            block = self._ordered(candidates, seen)
            seen.update(candidates.ids)
            self.scored = len(seen)
            self._ordered_so_far += len(block)
            yield block
            depth = min(_DEEPER * depth, MAX_SHORTLIST)

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
            if self._least is not None:
                order = [i for i in order if scores[i] >= self._least]
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


def leading(
    collection: Collection,
    blocks: Iterable[list[Ranked]],
    wanted: int,
    keep_duplicates: bool = False,
    like: Sequence[str] = (),
    deadline: float | None = None,
) -> list[tuple[Ranked, Record]]:
    """The first so many of these images, in their order, without those of a group that comes earlier.

    Args:
        collection: where their payloads are.
        blocks: the images, best first; no further block is asked for than it takes.
        wanted: how many at most; fewer where the images are fewer or belong to fewer groups.
        keep_duplicates: whether images of a group that comes earlier count like others.
        like: ids of images that are left out, and so are their near-duplicates unless they are kept.
        deadline: of each read, see `Collection.retrieve`.
    """
    chosen: list[tuple[Ranked, Record]] = []
    groups: set[str] = set()
    size = wanted if keep_duplicates else wanted + min(wanted, _SPARE)
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
            size *= _LONGER
        if len(chosen) >= wanted:
            break
    return chosen[:wanted]


def ordered(found: Sequence[tuple[Ranked, Record]], sort: str) -> list[tuple[Ranked, Record]]:
    """The images in the order of a field's values, equal ones and those without one, which come last, as they were.

    Args:
        found: in the order of the answer.
        sort: the field's name, after a ``-`` for the greatest first.
    """
    path = field_path(sort.removeprefix("-"))
    values = [next(values_at(record.payload, path), None) for _, record in found]
    # Numbers come before texts, since the two cannot be compared.
    keys = {
        i: (isinstance(value, str), value) for i, value in enumerate(values) if isinstance(value, str | int | float)
    }
    having = sorted(keys, key=keys.__getitem__, reverse=sort.startswith("-"))
    return [found[i] for i in having] + [each for i, each in enumerate(found) if i not in keys]
