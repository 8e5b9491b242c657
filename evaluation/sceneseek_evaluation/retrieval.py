"""Evaluate text-to-image retrieval: the rank of each caption's own image.

The evaluation is end to end: the images are indexed into a real index, and every caption is encoded by the text graph
and searched for with the engine. The protocol is the usual one (Hodosh, Young and Hockenmaier 2013): one relevant image
per caption; recall@k is the share of captions whose image is among the first k.

Two orders are measured: that of the candidates, by cosine, and, under names that begin with ``rescored.``, that of a
search, which reranks the first `DEFAULT_SHORTLIST` by the head's score; an image beyond these keeps its rank. Intervals
are from the bootstrap by image, with all captions of an image. Captions with a language are also measured by language
(`sceneseek_evaluation.figures`).

`exact_ranks` computes the ranks in a joint space without an index, for training.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sceneseek.bundle import Bundle
from sceneseek.captions import Caption
from sceneseek.errors import DataError
from sceneseek.payload import point_id
from sceneseek.progress import Progress
from sceneseek.request import DEFAULT_SHORTLIST
from sceneseek.reranker import Reranker, best_first
from sceneseek.runtime import Device
from sceneseek.store import Collection, VectorStore
from sceneseek.vectors import Candidates, Floats
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
from sceneseek_evaluation.pairs import encode_texts, searchable
from sceneseek_indexer.build import BuildOptions, index_folder
from sceneseek_indexer.walk import Listing, list_images

RECALL_AT = (1, 5, 10, 50)
RANKING_FIGURES = (*(f"recall@{k}" for k in RECALL_AT), "median_rank", "mrr")
_TEXTS_PER_BLOCK = 1024


def ranking_figures(ranks: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return the figures `RANKING_FIGURES` of ranks (N,) from 1; infinity means not found.

    ``recall@k`` is the share of ranks up to k, ``median_rank`` is infinite if most images were not found, and ``mrr``
    is the mean of the reciprocal ranks.
    """
    recall = {f"recall@{k}": float((ranks <= k).mean()) for k in RECALL_AT}
    return {**recall, "median_rank": float(np.median(ranks)), "mrr": float((1 / ranks).mean())}


def exact_ranks(images: Floats, texts: Floats, owner: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the rank (M,), from 1, of each text's own image by exact search.

    Args:
        images: (N, D) joint vectors.
        texts: (M, D) joint vectors.
        owner: (M,) each text's own image; images with the same similarity are ranked before it.
    """
    found = []
    for start in range(0, len(texts), _TEXTS_PER_BLOCK):
        similarity = texts[start : start + _TEXTS_PER_BLOCK] @ images.T
        own = similarity[np.arange(len(similarity)), owner[start : start + _TEXTS_PER_BLOCK]]
        found.append((similarity >= own[:, None]).sum(axis=1))
    return np.concatenate(found).astype(np.float64)


DEPTH = 1_000
RESCORED = "rescored."
RETRIEVAL_FIGURES = (*RANKING_FIGURES, *(f"{RESCORED}{name}" for name in RANKING_FIGURES))
_TABLED = tuple(f"{order}recall@{k}" for order in ("", RESCORED) for k in (1, 5, 10))

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """The result of a retrieval evaluation.

    Attributes:
        figures: the figures `RETRIEVAL_FIGURES`, and the same for each language, by name.
        queries: number of captions searched for.
        languages: number of captions searched for, by language; 0 if none of their images could be indexed.
        images: number of images in the index.
        missing: number of images of the captions file that are not in the folder or could not be indexed.
        depth: number of results per query; images beyond count as not found.
        bundle: fingerprint of the bundle.
    """

    figures: dict[str, Figure]
    queries: int
    languages: dict[str, int]
    images: int
    missing: int
    depth: int
    bundle: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with stable keys."""
        return {
            **{name: self.figures[name].to_json() for name in RETRIEVAL_FIGURES},
            "languages": json_by_language(self.figures, self.languages, RETRIEVAL_FIGURES),
            "n_queries": self.queries,
            "n_images": self.images,
            "n_missing_images": self.missing,
            "depth": self.depth,
            "bundle": self.bundle,
        }

    def lines(self) -> list[str]:
        """The lines of the printed report."""
        lines = [
            f"{self.queries:,} captions of {self.images:,} images, bundle {self.bundle[:12]}",
            *table({name: self.figures[name] for name in RETRIEVAL_FIGURES}),
        ]
        if self.languages:
            lines += ["", *table_by_language(self.figures, self.languages, _TABLED)]
        return lines


def evaluate_retrieval(
    bundle: Bundle,
    images: Path,
    captions: Sequence[Caption],
    store: VectorStore,
    device: Device = "auto",
    bootstrap: Bootstrap = BOOTSTRAP,
) -> RetrievalReport:
    """Index the captions' images from a folder into an empty store, and rank each caption's own image by a search.

    Raises:
        DataError: no caption's image is in the folder, or a caption is not a valid query.
        SourceError: the folder cannot be used.
    """
    for caption in captions:
        searchable(caption.text)  # checked before indexing images, which takes minutes
    wanted = {caption.image for caption in captions}
    listing = list_images(images)
    chosen = Listing([file for file in listing.files if file.relative in wanted])
    if not chosen.files:
        raise DataError(
            f"none of the {len(wanted):,} images of the captions file is in {images}",
            "the file's image names are paths relative to --images",
        )
    report = index_folder(images, bundle, store, BuildOptions(device=device), chosen)
    unusable = {skipped.relative for skipped in report.skipped}
    indexed = {file.relative for file in chosen.files} - unusable
    asked = [caption for caption in captions if caption.image in indexed]
    if missing := len(wanted) - len(indexed):
        log.warning("%d of %d images of the captions file are not in %s", missing, len(wanted), images)
    collection = store.open(report.generation)
    try:
        by_cosine, by_score = _own_ranks(bundle, collection, asked, min(DEPTH, len(indexed)), device)
    finally:
        collection.close()

    def measure(rows: Positions) -> dict[str, float]:
        after = ranking_figures(by_score[rows])
        return {**ranking_figures(by_cosine[rows]), **{f"{RESCORED}{name}": value for name, value in after.items()}}

    spoken = np.array([caption.language for caption in asked])
    languages = {code: int((spoken == code).sum()) for code in languages_of(captions)}
    every = measure_by_language(measure, spoken, languages, RETRIEVAL_FIGURES)
    _, owner = np.unique([caption.image for caption in asked], return_inverse=True)
    return RetrievalReport(
        figures=bootstrap.figures(every(np.arange(len(asked))), every, owner),
        queries=len(asked),
        languages=languages,
        images=len(indexed),
        missing=missing,
        depth=min(DEPTH, len(indexed)),
        bundle=bundle.manifest.fingerprints.bundle,
    )


def rescored_rank(candidates: Candidates, scores: Floats, own: str) -> float:
    """Return the rank (from 1) of an id among candidates in the order of a search; NaN if it is not among them."""
    if own not in candidates.ids:
        return np.nan
    return float(np.flatnonzero(best_first(candidates, scores) == candidates.ids.index(own))[0] + 1)


def _own_ranks(
    bundle: Bundle, collection: Collection, captions: Sequence[Caption], depth: int, device: Device
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the rank (from 1) of each caption's own image by cosine, and by score.

    Infinity if it is not among the first `depth`.
    """
    reranker = Reranker(bundle)
    texts = encode_texts(bundle, [caption.text for caption in captions], device)
    by_cosine, by_score = np.full((2, len(captions)), np.inf)
    with Progress("searching", len(captions), "captions") as progress:
        for row, (caption, joint, head) in enumerate(zip(captions, texts.joint, texts.head, strict=True)):
            own = point_id(caption.image)
            ids = collection.nearest(joint, depth).ids
            if own in ids:
                by_cosine[row] = ids.index(own) + 1
            # A separate query, as in a search: the first results of a deeper query may differ.
            candidates = collection.nearest(joint, DEFAULT_SHORTLIST, reranker.vectors_read())
            rank = rescored_rank(candidates, reranker.score(candidates, joint, head), own)
            by_score[row] = by_cosine[row] if np.isnan(rank) else rank
            progress.advance()
    return by_cosine, by_score
