"""The check of a new generation before it becomes live.

`inspect` checks that all vectors are complete and that approximate search agrees with exact search; `compare` checks
that captions find their images as well as before.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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

# `search_ef` is increased until the mean recall of approximate search over the sample queries is good. A graph below
# the least recall with the largest `search_ef` is broken.
GOOD_RECALL, LEAST_RECALL = 0.99, 0.8
EFFORTS = (SEARCH_EF, 2 * SEARCH_EF, 4 * SEARCH_EF, 8 * SEARCH_EF)
_LIMIT, _BATCH = 100, 1024
_LENGTH = 1e-2  # tolerance of the norm; a conversion to float16 changes it by less

_ADVICE = "index the folders again; the live generation is unchanged"


def inspect(collection: Collection, bundle: Bundle) -> dict[str, float]:
    """Check every vector of an optimised generation, and set its `search_ef` by sample queries.

    Returns:
        The number of ``points``, and the ``recall`` of approximate against exact search.

    Raises:
        UnfitGeneration: a vector is missing or invalid, or recall is too low.
    """
    points = _check_vectors(collection)
    recall = _set_effort(collection, bundle, min(_LIMIT, points)) if points else 1.0
    if recall < LEAST_RECALL:
        raise UnfitGeneration(
            f"approximate search in the new generation has a recall of {recall:.3f}, below {LEAST_RECALL}", _ADVICE
        )
    return {"points": points, "recall": round(recall, 4)}


def _check_vectors(collection: Collection) -> int:
    seen = 0
    for records in batched(collection.scroll(_BATCH), _BATCH):
        ids = [record.id for record in records]
        stored = collection.vectors(ids)
        for identity in ids:
            vectors = stored.get(identity)
            if vectors is None or len(vectors.joint) != collection.info.joint:
                raise UnfitGeneration(f"the new generation lacks the vector of {identity}", _ADVICE)
            valid = len(vectors.head) == collection.info.head and np.isfinite(vectors.head).all()
            if not valid or not abs(np.linalg.norm(vectors.joint) - 1) < _LENGTH:
                raise UnfitGeneration(f"the new generation contains an invalid vector of {identity}", _ADVICE)
        seen += len(ids)
    return seen


def _set_effort(collection: Collection, bundle: Bundle, limit: int) -> float:
    """Set the smallest `search_ef` with good recall, or the largest; return its recall."""
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


def compare(
    store: VectorStore, live: CollectionInfo, fresh: Collection, bundle: Bundle, file: Path, max_loss: float
) -> dict[str, float] | None:
    """Compare the live generation with a new one, built with `bundle`, on captions of images that both contain.

    Returns:
        Recall@5 (times 100) ``before`` and ``after``, and the number of ``captions``; None if the bundle of the live
        generation cannot be found.

    Raises:
        DataError: the captions cannot be read, or none of their images is in both.
        IndexUnavailable: the new generation loses more than `max_loss` points.
    """
    before = find_bundle(live, bundle.path)
    if before is None:
        log.warning("the generations cannot be compared: the bundle of %s cannot be found", live.name)
        return None
    with contextlib.closing(store.glance(live.name)) as old:
        captions = indexed(old, indexed(fresh, read_captions(file)))
        if not captions:
            raise DataError(f"no image of {file} is indexed", "write the paths of its images relative to the folder")
        was, now = recall_at_5(old, before, captions), recall_at_5(fresh, bundle, captions)
    if was - now > max_loss:
        raise IndexUnavailable(
            f"recall@5 (x100) would fall by {was - now:.2f} from {was:.2f} to {now:.2f}, over {max_loss:g}; "
            "the live generation is unchanged",
            "allow more with --max-loss, which resumes this run, or index with another bundle",
        )
    return {"before": round(was, 2), "after": round(now, 2), "captions": len(captions)}


def recall_at_5(collection: Collection, bundle: Bundle, captions: Sequence[Caption]) -> float:
    """Recall@5 (times 100): the share of captions whose image is among the first five results."""
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
    existing: set[str] = set()
    ids = list(dict.fromkeys(point_id(caption.image) for caption in captions))
    for batch in batched(ids, 1024):
        existing |= {record.id for record in collection.retrieve(batch)}
    return [caption for caption in captions if point_id(caption.image) in existing]
