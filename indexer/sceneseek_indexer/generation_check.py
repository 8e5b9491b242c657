"""The check of a new generation before it becomes live.

Its vectors are complete, approximate search agrees with exact search, and captions are found as well as before.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sceneseek.bundle import Bundle
from sceneseek.captions import Caption, read_captions
from sceneseek.encoders import TextEncoder
from sceneseek.errors import DataError, IndexUnavailable, UnfitGeneration
from sceneseek.models import find_bundle
from sceneseek.payload import point_id
from sceneseek.request import DEFAULT_SHORTLIST
from sceneseek.reranker import Reranker, best_first
from sceneseek.sample_queries import QUERIES
from sceneseek.store import Collection, CollectionInfo, VectorStore
from sceneseek.store.base import SEARCH_EF
from sceneseek_indexer.pipeline import batched

# More candidates are kept by each search until approximate search finds this much of what exact search finds, in the
# mean of the sample queries. A graph that finds less than the least with the most candidates is broken.
GOOD_RECALL, LEAST_RECALL = 0.99, 0.8
EFFORTS = (SEARCH_EF, 2 * SEARCH_EF, 4 * SEARCH_EF, 8 * SEARCH_EF)
_LIMIT, _BATCH = 100, 1024
_LENGTH = 1e-2  # float16 somewhere on the way would still be nearer to 1

_ADVICE = "index the folders again; the live generation is unchanged"


@dataclass(frozen=True, slots=True)
class Inspection:
    """The number of checked points, and the recall of approximate against exact search."""

    points: int
    recall: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"points": self.points, "recall": round(self.recall, 4)}


def inspect(collection: Collection, bundle: Bundle) -> Inspection:
    """Check every vector, and find out by sample queries how many candidates a search must keep.

    Args:
        collection: optimised, not live yet; its record gets the number.
        bundle: the bundle that filled it.

    Raises:
        UnfitGeneration: a vector is missing or invalid, or recall is too low.
    """
    points = _check_vectors(collection)
    recall = _set_effort(collection, bundle, min(_LIMIT, points)) if points else 1.0
    if recall < LEAST_RECALL:
        raise UnfitGeneration(
            f"approximate search in the new generation has a recall of {recall:.3f}, below {LEAST_RECALL}", _ADVICE
        )
    return Inspection(points, recall)


def _check_vectors(collection: Collection) -> int:
    seen = 0
    for records in batched(collection.scroll(_BATCH), _BATCH):
        ids = [record.id for record in records]
        stored = collection.vectors(ids)
        for identity in ids:
            vectors = stored.get(identity)
            if vectors is None or len(vectors.joint) != collection.info.joint:
                raise UnfitGeneration(f"the new generation lacks the vector of {identity}", _ADVICE)
            whole = len(vectors.head) == collection.info.head and np.isfinite(vectors.head).all()
            if not whole or not abs(np.linalg.norm(vectors.joint) - 1) < _LENGTH:
                raise UnfitGeneration(f"the new generation contains an invalid vector of {identity}", _ADVICE)
        seen += len(ids)
    return seen


def _set_effort(collection: Collection, bundle: Bundle, limit: int) -> float:
    """Record the least effort with good recall, or the largest; its recall."""
    joints = TextEncoder(bundle, "cpu").encode(list(QUERIES)).joint
    true = [set(collection.nearest(joint, limit, exact=True).ids) for joint in joints]
    recall = 1.0
    for effort in EFFORTS:
        collection.info = replace(collection.info, search_ef=effort)
        near = [set(collection.nearest(joint, limit).ids) for joint in joints]
        recall = float(np.mean([len(a & b) / len(b) for a, b in zip(near, true, strict=True)]))
        if recall >= GOOD_RECALL:
            break
    return recall


_QUERY_BATCH, _FIRST = 64, 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Recall@5 (times 100) of the generation before and of the one after, over `captions` captions."""

    before: float
    after: float
    captions: int

    @property
    def lost(self) -> float:
        """Points; negative where the new one is better."""
        return self.before - self.after

    def check(self, max_loss: float) -> None:
        """Reject a new generation that loses more points than this.

        Raises:
            IndexUnavailable: it does.
        """
        if self.lost > max_loss:
            raise IndexUnavailable(
                f"recall@5 (x100) would fall by {self.lost:.2f} from {self.before:.2f} to {self.after:.2f}, "
                f"over {max_loss:g}; the live generation is unchanged",
                "allow more with --max-loss, which resumes this run, or index with another bundle",
            )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"before": round(self.before, 2), "after": round(self.after, 2), "captions": self.captions}


def compare(
    store: VectorStore, live: CollectionInfo, fresh: Collection, bundle: Bundle, file: Path
) -> Comparison | None:
    """Compare the live generation with a new one, over captions of images that both contain.

    Args:
        store: the store of the live one.
        live: the live one.
        fresh: the new one, open.
        bundle: that filled the new one.
        file: of captions.

    Returns:
        None if the bundle that filled the live one cannot be found.

    Raises:
        DataError: the captions cannot be read, or are of other images.
    """
    before = find_bundle(live, bundle.path)
    if before is None:
        log.warning("the generations cannot be compared: the bundle that filled %s cannot be found", live.name)
        return None
    old = store.glance(live.name)
    try:
        captions = indexed(old, indexed(fresh, read_captions(file)))
        if not captions:
            raise DataError(f"no image of {file} is indexed", "its image names are paths relative to the folder")
        return Comparison(recall_at_5(old, before, captions), recall_at_5(fresh, bundle, captions), len(captions))
    finally:
        old.close()


def recall_at_5(collection: Collection, bundle: Bundle, captions: Sequence[Caption]) -> float:
    """The share, times 100, of captions whose own image is among the first five of an answer.

    Args:
        collection: to search.
        bundle: the bundle that filled it.
        captions: at least one; those of images that are not indexed count as not found.
    """
    encoder, reranker = TextEncoder(bundle, "cpu"), Reranker(bundle)
    found = 0
    for batch in batched(captions, _QUERY_BATCH):
        vectors = encoder.encode([caption.text for caption in batch])
        for caption, joint, head in zip(batch, vectors.joint, vectors.head, strict=True):
            candidates = collection.nearest(joint, DEFAULT_SHORTLIST, reranker.vectors_read())
            order = best_first(candidates, reranker.score(candidates, joint, head))[:_FIRST]
            found += point_id(caption.image) in {candidates.ids[i] for i in order}
    return 100 * found / len(captions)


def indexed(collection: Collection, captions: Sequence[Caption]) -> list[Caption]:
    """The captions whose image is in the collection."""
    there: set[str] = set()
    ids = list(dict.fromkeys(point_id(caption.image) for caption in captions))
    for some in batched(ids, 1024):
        there |= {record.id for record in collection.retrieve(some)}
    return [caption for caption in captions if point_id(caption.image) in there]
