"""How well a generation finds the images of captions, so that the one before and the one after can be compared."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sceneseek.bundle import Bundle
from sceneseek.captions import Caption, read_captions
from sceneseek.encoders import TextEncoder
from sceneseek.errors import DataError, IndexUnavailable
from sceneseek.models import find_bundle
from sceneseek.payload import point_id
from sceneseek.request import DEFAULT_SHORTLIST
from sceneseek.reranker import Reranker, best_first
from sceneseek.store import Collection, CollectionInfo, VectorStore
from sceneseek_indexer.pipeline import batched

_BATCH, _FIRST = 64, 5

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
        """Refuse a new generation that loses more points than this.

        Raises:
            IndexUnavailable: it does.
        """
        if self.lost > max_loss:
            raise IndexUnavailable(
                f"recall@5 (x100) would fall by {self.lost:.2f} from {self.before:.2f} to {self.after:.2f}, "
                f"over {max_loss:g}; the live generation goes on",
                "allow more with --max-loss, which takes up what was encoded, or index with another bundle",
            )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"before": round(self.before, 2), "after": round(self.after, 2), "captions": self.captions}


def compare(
    store: VectorStore, live: CollectionInfo, fresh: Collection, bundle: Bundle, file: Path
) -> Comparison | None:
    """The live generation beside a new one, over captions of images that both hold.

    Args:
        store: holds the live one.
        live: the live one.
        fresh: the new one, open.
        bundle: that filled the new one.
        file: of captions.

    Returns:
        None where the bundle that filled the live one is not at hand.

    Raises:
        DataError: the captions cannot be read, or are of other images.
    """
    before = find_bundle(live, bundle.path)
    if before is None:
        log.warning("there is nothing to compare with: the bundle that filled %s is not at hand", live.name)
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
        bundle: that filled it.
        captions: at least one; those of images that are not indexed count as not found.
    """
    encoder, reranker = TextEncoder(bundle, "cpu"), Reranker(bundle)
    found = 0
    for batch in batched(captions, _BATCH):
        vectors = encoder.encode([caption.text for caption in batch])
        for caption, joint, head in zip(batch, vectors.joint, vectors.head, strict=True):
            candidates = collection.nearest(joint, DEFAULT_SHORTLIST, reranker.vectors_read())
            order = best_first(candidates, reranker.score(candidates, joint, head))[:_FIRST]
            found += point_id(caption.image) in {candidates.ids[i] for i in order}
    return 100 * found / len(captions)


def indexed(collection: Collection, captions: Sequence[Caption]) -> list[Caption]:
    """Those whose image the collection holds."""
    there: set[str] = set()
    ids = list(dict.fromkeys(point_id(caption.image) for caption in captions))
    for some in batched(ids, 1024):
        there |= {record.id for record in collection.retrieve(some)}
    return [caption for caption in captions if point_id(caption.image) in there]
