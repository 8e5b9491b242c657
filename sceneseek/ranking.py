"""The results of one answer in order: nearest neighbours, reranked block by block, without near-duplicates.

The first block holds the candidates that the search asked for. Reading past it brings the next neighbours, reranked
among themselves, so what has been seen stays where it was: the pages of an answer show each image once and leave none
out, which an order that is computed again over ever more candidates would not. Each block reaches four times as deep as
the one before. Of each group of near-duplicates the best image stands for itself and the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from sceneseek.payload import similar_images
from sceneseek.request import MAX_SHORTLIST
from sceneseek.reranker import best_first
from sceneseek.store import Collection, Record
from sceneseek.vectors import Candidates, Floats

_DEEPER = 4


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

    Attributes:
        scored: how many neighbours have been looked at.
        best: the highest score among them; 0 before there was one.
    """

    def __init__(
        self,
        candidates: Callable[[int], Candidates],
        score: Callable[[Candidates], Floats | None],
        by_score: bool,
        first: int,
        least: float | None = None,
    ) -> None:
        self._candidates, self._score, self._by_score = candidates, score, by_score
        self._first, self._least = first, least
        self._complete = False
        self._ordered_so_far = 0
        self.scored = 0
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


# Payloads that are read beyond those of the results, so that near-duplicates among the first seldom cost another call.
_SPARE = 5
# Each further read is so many times as long: a block of mostly near-duplicates is read in three.
_LONGER = 4


def leading(
    collection: Collection,
    blocks: Iterable[list[Ranked]],
    wanted: int,
    keep_duplicates: bool = False,
    like: str = "",
    deadline: float | None = None,
) -> list[tuple[Ranked, Record]]:
    """The first so many of these images, in their order, without those of a group that comes earlier.

    Args:
        collection: where their payloads are.
        blocks: the images, best first; no further block is asked for than it takes.
        wanted: how many at most; fewer where the images are fewer or belong to fewer groups.
        keep_duplicates: whether images of a group that comes earlier count like others.
        like: the id of an image that is left out, and so are its near-duplicates unless they are kept.
        deadline: of each read, see `Collection.retrieve`.
    """
    chosen: list[tuple[Ranked, Record]] = []
    groups: set[str] = set()
    size = wanted if keep_duplicates else wanted + min(wanted, _SPARE)
    unread = [like] if like else []
    for block in blocks:
        ranked = {image.id: image for image in block if image.id != like}
        ids = iter([*unread, *ranked])
        unread = []
        while len(chosen) < wanted and (batch := list(itertools.islice(ids, size))):
            for record in collection.retrieve(batch, deadline):
                group = similar_images(record.payload)[0]
                if record.id != like and (keep_duplicates or group is None or group not in groups):
                    chosen.append((ranked[record.id], record))
                if group is not None:
                    groups.add(group)
            size *= _LONGER
        if len(chosen) >= wanted:
            break
    return chosen[:wanted]
