"""Text-to-image retrieval: at which place does each caption find its own image?

Measured as a user gets it: the images are indexed into a real index, every caption goes through the text
graph and the engine. The protocol is the usual one (Hodosh, Young and Hockenmaier 2013): one relevant
image a caption, recall@k the share of captions whose image is among the first k.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.metrics import RankingFigures
from indexer.build import BuildOptions, index_listing
from indexer.pipeline import batched
from indexer.walk import Listing, list_images
from sceneseek.bundle import Bundle
from sceneseek.captions import Caption
from sceneseek.encoders import TextEncoder
from sceneseek.errors import DataError, InvalidRequest
from sceneseek.live import LiveCollection
from sceneseek.payload import point_id
from sceneseek.progress import Progress
from sceneseek.request import checked_query
from sceneseek.runtime import Device
from sceneseek.store import VectorStore

DEPTH = 1_000
_BATCH = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """What an evaluation found.

    Attributes:
        figures: of the shortlist order.
        queries: captions asked.
        images: images in the index.
        missing: images of the captions file that are not in the folder or could not be indexed.
        depth: places looked at; an image beyond counts as not found.
        bundle: fingerprint of the bundle.
    """

    figures: RankingFigures
    queries: int
    images: int
    missing: int
    depth: int
    bundle: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with stable keys."""
        return {
            **self.figures.to_json(),
            "n_queries": self.queries,
            "n_images": self.images,
            "n_missing_images": self.missing,
            "depth": self.depth,
            "bundle": self.bundle,
        }


def evaluate_retrieval(
    bundle: Bundle, images: Path, captions: Sequence[Caption], store: VectorStore, device: Device = "auto"
) -> RetrievalReport:
    """Index the captions' images into an empty store, ask every caption, and rank its own image.

    Args:
        bundle: the graphs to evaluate.
        images: the folder that the captions' image names are relative to.
        captions: image and text; only the images named here are indexed.
        store: an empty store to build in.
        device: where the graphs run.

    Raises:
        DataError: no caption's image is in the folder, or a caption cannot be searched.
        SourceError: the folder cannot be used.
    """
    wanted = {caption.image for caption in captions}
    listing = list_images(images)
    chosen = Listing([file for file in listing.files if file.relative in wanted])
    if not chosen.files:
        raise DataError(
            f"none of the {len(wanted):,} images of the captions file is in {images}",
            "the file's image names are paths relative to --images",
        )
    receipt = index_listing(images, chosen, bundle, store, BuildOptions(device=device))
    unusable = {skipped.relative for skipped in receipt.skipped}
    indexed = {file.relative for file in chosen.files} - unusable
    asked = [caption for caption in captions if caption.image in indexed]
    if missing := len(wanted) - len(indexed):
        log.warning("%d of %d images of the captions file are not in %s", missing, len(wanted), images)
    ranks = _own_ranks(bundle, store, asked, min(DEPTH, len(indexed)), device)
    return RetrievalReport(
        figures=RankingFigures.of(ranks),
        queries=len(asked),
        images=len(indexed),
        missing=missing,
        depth=min(DEPTH, len(indexed)),
        bundle=bundle.manifest.fingerprints.bundle,
    )


def _own_ranks(
    bundle: Bundle, store: VectorStore, captions: Sequence[Caption], depth: int, device: Device
) -> npt.NDArray[np.float64]:
    """The place (from 1) of each caption's own image; infinity where it is not among the first `depth`."""
    encoder = TextEncoder(bundle, device)
    live = LiveCollection(store, bundle.manifest.fingerprints.image)
    ranks = []
    try:
        with live.borrow() as collection, Progress("asking", len(captions), "captions") as progress:
            for batch in batched(captions, _BATCH):
                vectors = encoder.encode([_searchable(caption) for caption in batch])
                for caption, joint in zip(batch, vectors.joint, strict=True):
                    ids = collection.shortlist(joint, depth).ids
                    own = point_id(caption.image)
                    ranks.append(ids.index(own) + 1.0 if own in ids else np.inf)
                progress.advance(len(batch))
    finally:
        live.close()
    return np.array(ranks)


def _searchable(caption: Caption) -> str:
    try:
        return checked_query(caption.text)
    except InvalidRequest as error:
        raise DataError(f"the caption of {caption.image} cannot be searched ({error.what})", error.hint) from error
