"""A query's way: text -> vectors -> shortlist -> scores -> the best k."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sceneseek.bundle import Bundle
from sceneseek.collapse import leading
from sceneseek.filters import Filter
from sceneseek.live import Live
from sceneseek.models import Models, Shelf
from sceneseek.payload import similar_images
from sceneseek.query_encoder import QueryEncoder
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST, MAX_SHORTLIST, checked_k, checked_query
from sceneseek.runtime import Device, Placement
from sceneseek.scorer import best_first
from sceneseek.store import VectorStore


@dataclass(frozen=True, slots=True)
class Result:
    """One image of an answer: `score` in [0, 1], `similarity` the joint-space cosine, `rank` from 1.

    `duplicates` is how many other images of the index are near-duplicates of it; unless they are kept, it stands for
    them in the answer.
    """

    rank: int
    id: str
    score: float
    similarity: float
    path: str
    width: int
    height: int
    format: str
    metadata: dict[str, Any]
    duplicates: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The results of one query, best first, and how they came about.

    Attributes:
        query: the text that was searched.
        truncated: whether it was longer than the text tower reads, so that its end was ignored.
        results: at most k.
        shortlist: how many candidates were scored.
        generation: the collection that answered.
        bundle: fingerprint of the bundle that answered.
        calibrated: whether the score was learned from ratings.
        timings_ms: milliseconds by stage, and ``total``.
    """

    query: str
    truncated: bool
    results: list[Result]
    shortlist: int
    generation: str
    bundle: str
    calibrated: bool
    timings_ms: dict[str, float]


class Search:
    """The pipeline over one bundle and one store. Thread-safe.

    Args:
        bundle: the graphs; others beside it may take its place, see `Shelf`.
        store: where the generations are.
        threads: threads within one run of the text graph; 0 leaves it to the runtime.
        encoder: encodes the queries, and is closed with this; without it, one that has no threads and no cache.

    Attributes:
        live: the generation that answers, with the models that belong to it.
        encoder: see above.

    Raises:
        IndexUnavailable, RuntimeUnavailable, BundleError: see `Live` and `Shelf`.
    """

    def __init__(
        self,
        bundle: Bundle,
        store: VectorStore,
        device: Device = "auto",
        threads: int = 0,
        encoder: QueryEncoder | None = None,
    ) -> None:
        self.live: Live[Models] = Live(store, Shelf(bundle, device, threads))
        self.encoder = encoder or QueryEncoder.direct()

    @property
    def bundle(self) -> Bundle:
        """The one that answers now."""
        return self.live.companion.bundle

    @property
    def placement(self) -> Placement:
        """Where its text graph runs."""
        return self.live.companion.encoder.placement

    def query(
        self,
        text: str,
        k: int = DEFAULT_K,
        shortlist: int = DEFAULT_SHORTLIST,
        where: Filter | None = None,
        keep_duplicates: bool = False,
        deadline: float | None = None,
    ) -> Answer:
        """The k images that match a text best.

        The order is by score; equal scores, which a calibration with steps gives, by similarity.

        Args:
            text: a scene in words; checked by `checked_query`.
            k: how many results, 1 to `MAX_K`.
            shortlist: how many nearest neighbours to score; never fewer than k, and more where their
                near-duplicates would leave fewer than k results.
            where: only images that satisfy this are found at all.
            keep_duplicates: whether near-duplicates of a better result are results of their own.
            deadline: on the clock of `time.monotonic`; see `QueryEncoder.text`.

        Raises:
            InvalidRequest: the text or k cannot be searched.
            TryAgain: see `QueryEncoder.text`.
        """
        clock = _Clock()
        text, k = checked_query(text), checked_k(k)
        with self.live.borrow() as pair:
            collection, models = pair.collection, pair.companion
            encoded = self.encoder.text(models, text, deadline)
            clock.lap("encode")
            limit = max(shortlist, k)
            while True:
                candidates = collection.shortlist(encoded.joint, limit, models.scorer.vectors_read(), where=where)
                clock.lap("shortlist")
                scores = models.scorer.score(candidates, encoded.joint, encoded.head)
                order = best_first(candidates, scores)
                clock.lap("score")
                records = leading(collection, [candidates.ids[i] for i in order], k, keep_duplicates)
                clock.lap("payload")
                if len(records) == k or len(candidates) < limit or limit >= MAX_SHORTLIST:
                    break
                limit = min(4 * limit, MAX_SHORTLIST)
            generation = collection.info.name
        places = {identity: place for place, identity in enumerate(candidates.ids)}
        results = [
            Result(
                rank=rank,
                id=record.id,
                score=float(scores[places[record.id]]),
                similarity=float(candidates.similarity[places[record.id]]),
                path=str(record.payload.get("path", "")),
                width=int(record.payload.get("width", 0)),
                height=int(record.payload.get("height", 0)),
                format=str(record.payload.get("format", "")),
                metadata=dict(record.payload.get("metadata", {})),
                duplicates=similar_images(record.payload)[1],
            )
            for rank, record in enumerate(records, start=1)
        ]
        return Answer(
            query=text,
            truncated=encoded.truncated,
            results=results,
            shortlist=len(candidates),
            generation=generation,
            bundle=models.bundle.manifest.fingerprints.bundle,
            calibrated=models.bundle.manifest.head.calibrated,
            timings_ms=clock.read(),
        )

    def warm_up(self) -> None:
        """Run every stage once, so that the first query of a person is not the slow one."""
        self.query("warm-up", k=1)

    def close(self) -> None:
        """Let go of the index, and end the threads of the encoder."""
        self.encoder.close()
        self.live.close()


class _Clock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps[stage] = round(self._laps.get(stage, 0.0) + (now - self._last) * 1e3, 3)
        self._last = now

    def read(self) -> dict[str, float]:
        return {**self._laps, "total": round((time.perf_counter() - self._start) * 1e3, 3)}
