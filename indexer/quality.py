"""How well a generation finds the images of captions, so that the one before and the one after can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from indexer.pipeline import batched
from sceneseek.bundle import Bundle
from sceneseek.captions import Caption
from sceneseek.encoders import TextEncoder
from sceneseek.payload import point_id
from sceneseek.request import DEFAULT_SHORTLIST
from sceneseek.scorer import Scorer, best_first
from sceneseek.store import Collection

_BATCH, _FIRST = 64, 5


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

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"before": round(self.before, 2), "after": round(self.after, 2), "captions": self.captions}


def recall_at_5(collection: Collection, bundle: Bundle, captions: Sequence[Caption]) -> float:
    """The share, times 100, of captions whose own image is among the first five of an answer.

    Args:
        collection: to search.
        bundle: that filled it.
        captions: at least one; those of images that are not indexed count as not found.
    """
    encoder, scorer = TextEncoder(bundle, "cpu"), Scorer(bundle)
    found = 0
    for batch in batched(captions, _BATCH):
        vectors = encoder.encode([caption.text for caption in batch])
        for caption, joint, head in zip(batch, vectors.joint, vectors.head, strict=True):
            candidates = collection.shortlist(joint, DEFAULT_SHORTLIST, scorer.vectors_read())
            order = best_first(candidates, scorer.score(candidates, joint, head))[:_FIRST]
            found += point_id(caption.image) in {candidates.ids[i] for i in order}
    return 100 * found / len(captions)


def indexed(collection: Collection, captions: Sequence[Caption]) -> list[Caption]:
    """Those whose image the collection holds."""
    there: set[str] = set()
    ids = list(dict.fromkeys(point_id(caption.image) for caption in captions))
    for some in batched(ids, 1024):
        there |= {record.id for record in collection.retrieve(some)}
    return [caption for caption in captions if point_id(caption.image) in there]
