"""A query's way: text and image -> vectors -> candidates -> scores -> the part of the answer that was asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, SupportsFloat

import numpy as np

from sceneseek.alias_follower import AliasFollower, Snapshot
from sceneseek.api import Answer, Explanation, Hint, Result, Scored, Scores
from sceneseek.bundle import Bundle
from sceneseek.errors import IndexUnavailable, NoSuchImage, TryAgain
from sceneseek.filters.conditions import FieldPath, HasValue
from sceneseek.hints import filter_hints, negation_hint
from sceneseek.models import ModelRegistry, Models
from sceneseek.payload import similar_images
from sceneseek.picture import Picture
from sceneseek.preprocess import prepare
from sceneseek.queries import Query
from sceneseek.query_encoder import Encoded, QueryEncoder
from sceneseek.request import MAX_SHORTLIST, checked_query
from sceneseek.reranker import Ranked, Ranking, leading, matches
from sceneseek.runtime import Placement
from sceneseek.store import Record, StoredVectors, VectorStore
from sceneseek.store.base import JOINT
from sceneseek.vectors import Candidates, Floats


def describe(record: Record) -> dict[str, Any]:
    """The fields of an `ImageDetails`, of a stored point."""
    payload = record.payload
    return {
        "id": record.id,
        "path": str(payload.get("path", "")),
        "width": int(payload.get("width", 0)),
        "height": int(payload.get("height", 0)),
        "format": str(payload.get("format", "")),
        "metadata": dict(payload.get("metadata", {})),
        "duplicates": similar_images(payload)[1],
    }


class _Probe:
    """What is searched by, in the joint space.

    Attributes:
        text: the encoded text, where there is one.
        image: (D,) of the image, where there is one.
        joint: (D,) of both, of length 1.
    """

    def __init__(self, text: Encoded | None, image: Floats | None, text_weight: float) -> None:
        self.text, self.image = text, image
        parts = [(text_weight, None if text is None else text.joint), (1 - text_weight, image)]
        there = [(weight, joint) for weight, joint in parts if joint is not None]
        if len(there) == 1:
            self.joint = there[0][1]
        else:
            mixed = np.stack([joint for _, joint in there]).T @ np.array([weight for weight, _ in there], np.float32)
            # Opposite vectors of equal weight leave nothing to search by; then everything is as near as all else.
            self.joint = mixed / np.maximum(np.linalg.norm(mixed), np.float32(1e-6))

    def explanation(self, rank: int, ranked: Ranked, joint: Floats) -> Explanation:
        """How an image, whose vector is `joint` (D,), came to its rank."""
        return Explanation(
            rank_before=ranked.neighbour,
            rank_after=rank,
            text_similarity=None if self.text is None else _rounded(joint @ self.text.joint),
            image_similarity=None if self.image is None else _rounded(joint @ self.image),
        )


class Search:
    """The pipeline over one bundle and one store. Thread-safe.

    Args:
        models: finds the graphs for each generation.
        store: where the generations are.
        encoder: what encodes queries; without one, each is encoded by the thread that asks.
        serving: wait for an index that is not there yet (see `AliasFollower`), and run one query on each new
            generation before it answers users, so that no user's first query is the slow one.

    Attributes:
        follower: the live generation, with the models that answer for it.
        encoder: what encodes queries.
        store: where the generations are.

    Raises:
        IndexUnavailable, RuntimeUnavailable, BundleError: see `AliasFollower` and `ModelRegistry`.
    """

    follower: AliasFollower[Models]

    def __init__(
        self,
        models: ModelRegistry,
        store: VectorStore,
        encoder: QueryEncoder | None = None,
        serving: bool = False,
    ) -> None:
        self.store = store
        self.encoder = encoder or QueryEncoder.direct()
        if not serving:
            self.follower = AliasFollower(store, models, models.bundle.path)
            return
        self.follower = AliasFollower(store, models, models.bundle.path, wait=True, prepare=self._warm_up)
        if self.follower.waiting_for is not None:
            models.load()

    @property
    def bundle(self) -> Bundle:
        """The one that answers now."""
        return self.follower.models.bundle

    @property
    def placement(self) -> Placement:
        """Where its text graph runs."""
        return self.follower.models.encoder.placement

    def query(self, query: Query, deadline: float | None = None, picture: Picture | None = None) -> Answer:
        """The images that match a query best.

        With a text alone the order is by score, and of equal scores, which a calibration with steps gives, by
        similarity. With an image it is by similarity to it, or to both; the score is then of the text alone. The order
        is the same for every `offset`, as long as k, the shortlist and what is searched for stay the same.

        Args:
            query: what is looked for.
            deadline: when the asker has no use for an answer any more, on the clock of `time.monotonic`.
            picture: what the results shall look like, in place of an indexed image.

        Raises:
            InvalidRequest: see `Query.check`.
            NotFound: the image to search by is not in the index.
            TryAgain: see `QueryEncoder.text`; or the deadline is over.
            IndexUnavailable: the index does not answer, or not before the deadline.
        """
        query.check(picture is not None)
        with self.follower.borrow() as snapshot:
            return self._answers(snapshot, [query], deadline, picture)[0]

    def queries(self, queries: Sequence[Query], deadline: float | None = None) -> list[Answer]:
        """The answers to several queries, all from one generation.

        Their texts are encoded together, and each answer's timings have its share of that.

        Raises: see `query`.
        """
        for query in queries:
            query.check()
        with self.follower.borrow() as snapshot:
            return self._answers(snapshot, queries, deadline)

    def _answers(
        self,
        snapshot: Snapshot[Models],
        queries: Sequence[Query],
        deadline: float | None,
        picture: Picture | None = None,
    ) -> list[Answer]:
        start = time.perf_counter()
        texts = [query.text for query in queries if query.text is not None]
        encoded = iter(self.encoder.texts(snapshot.models, texts, deadline))
        by_text = [None if query.text is None else next(encoded) for query in queries]
        share = (time.perf_counter() - start) / len(queries)
        return [
            self._answer(snapshot, query, text, picture or query.image, _Clock(share), deadline)
            for query, text in zip(queries, by_text, strict=True)
        ]

    def _answer(
        self,
        snapshot: Snapshot[Models],
        query: Query,
        text: Encoded | None,
        like: str | Picture | None,
        clock: _Clock,
        deadline: float | None,
    ) -> Answer:
        collection, manifest = snapshot.collection, snapshot.models.bundle.manifest
        image = None if like is None else self._image(snapshot, like, deadline).joint
        probe = _Probe(text, image, query.text_weight)
        clock.lap("encode")
        ranking = self._ranking(snapshot, query, probe, clock, deadline)
        itself = query.image or ""
        chosen = leading(collection, ranking.blocks(), query.offset + query.k, query.keep_duplicates, itself, deadline)
        page = chosen[query.offset :]
        clock.lap("payload")
        rule = manifest.head.match if text is not None else None
        results = tuple(
            Result(
                rank=rank,
                **describe(record),
                score=None if ranked.score is None else _rounded(ranked.score),
                match=matches(rule, ranked.score),
                similarity=_rounded(ranked.similarity),
                explanation=probe.explanation(rank, ranked, ranked.joint)
                if query.explain and ranked.joint is not None
                else None,
            )
            for rank, (ranked, record) in enumerate(page, start=query.offset + 1)
        )
        after = query.offset + query.k
        goes_on = len(page) == query.k and ranking.may_go_on(len(chosen))
        return Answer(
            query=query.text,
            truncated=text is not None and text.truncated,
            match=matches(rule, ranking.best),
            results=results,
            offset=query.offset,
            next_offset=after if goes_on and after < MAX_SHORTLIST else None,
            shortlist=ranking.scored,
            generation=collection.info.name,
            bundle=manifest.fingerprints.bundle,
            calibrated=manifest.head.calibrated,
            threshold=None if rule is None else rule.threshold,
            timings_ms=clock.read(),
            hints=self._hints(snapshot, query, probe, chosen, deadline),
        )

    def score(self, text: str, images: Sequence[str | Picture], deadline: float | None = None) -> Scores:
        """What a text scores for some images.

        Args:
            text: a scene in words.
            images: ids of indexed images, and pictures.
            deadline: see `query`.

        Raises:
            InvalidRequest: the text cannot be searched.
            NotFound: one of the ids is not in the index.
            TryAgain: see `QueryEncoder.text`.
        """
        clock, text = _Clock(), checked_query(text)
        with self.follower.borrow() as snapshot:
            models = snapshot.models
            encoded = self.encoder.text(models, text, deadline)
            found = [self._image(snapshot, image, deadline) for image in images]
            clock.lap("encode")
            joint = np.stack([vectors.joint for vectors in found])
            similarity = joint @ encoded.joint
            candidates = Candidates([""] * len(found), similarity, joint, np.stack([v.head for v in found]))
            scores = models.reranker.score(candidates, encoded.joint, encoded.head)
            clock.lap("score")
            generation, manifest = snapshot.collection.info.name, models.bundle.manifest
        rule = manifest.head.match
        return Scores(
            query=text,
            truncated=encoded.truncated,
            scores=tuple(
                Scored(
                    id=image if isinstance(image, str) else None,
                    score=_rounded(score),
                    match=matches(rule, float(score)),
                    similarity=_rounded(cosine),
                )
                for image, score, cosine in zip(images, scores, similarity, strict=True)
            ),
            generation=generation,
            bundle=manifest.fingerprints.bundle,
            calibrated=manifest.head.calibrated,
            threshold=None if rule is None else rule.threshold,
            timings_ms=clock.read(),
        )

    def close(self) -> None:
        """Let go of the index."""
        self.encoder.close()
        self.follower.close()

    def _warm_up(self, snapshot: Snapshot[Models]) -> None:
        self._answers(snapshot, [Query(text="warm-up", k=1)], None)

    def _image(self, snapshot: Snapshot[Models], image: str | Picture, deadline: float | None) -> StoredVectors:
        """The vectors of an indexed image, or of a picture."""
        if isinstance(image, str):
            found = snapshot.collection.vectors([image], deadline)
            if image not in found:
                raise NoSuchImage(image)
            return found[image]
        models = snapshot.models
        encoded = self.encoder.image(models, prepare(image, models.bundle.manifest.image_inputs), deadline)
        return StoredVectors(encoded.joint, encoded.head)

    @staticmethod
    def _hints(
        snapshot: Snapshot[Models], query: Query, probe: _Probe, found: Sequence[object], deadline: float | None
    ) -> tuple[Hint, ...]:
        """What about the question explains the answer; fields are looked at only if nothing was found."""
        collection = snapshot.collection

        def is_empty(field: FieldPath) -> bool:
            try:
                return not collection.nearest(probe.joint, 1, where=HasValue(field), deadline=deadline).ids
            except (IndexUnavailable, TryAgain):  # the answer is there, and a hint is not worth its loss
                return False

        hints = [negation_hint(query.text)] if query.text is not None else []
        if query.where is not None and not found:
            hints += filter_hints(query.where, collection.info, is_empty)
        return tuple(hint for hint in hints if hint is not None)

    @staticmethod
    def _ranking(
        snapshot: Snapshot[Models], query: Query, probe: _Probe, clock: _Clock, deadline: float | None
    ) -> Ranking:
        reranker, text = snapshot.models.reranker, probe.text
        needed = reranker.vectors_read() if text is not None else ()
        if query.explain or (text is not None and probe.image is not None):
            needed = (JOINT, *(name for name in needed if name != JOINT))

        def candidates(limit: int) -> Candidates:
            clock.lap("payload")
            found = snapshot.collection.nearest(probe.joint, limit, needed, where=query.where, deadline=deadline)
            clock.lap("shortlist")
            return found

        def score(found: Candidates) -> Floats | None:
            if text is None:
                return None
            if probe.image is not None and found.joint is not None:
                found = replace(found, similarity=found.joint @ text.joint)
            scores = reranker.score(found, text.joint, text.head)
            clock.lap("score")
            return scores

        by_score = probe.image is None
        return Ranking(candidates, score, by_score, max(query.shortlist, query.k), query.min_score)


def _rounded(value: SupportsFloat) -> float:
    """A score or a cosine to six decimals: what a float32 holds."""
    return round(float(value), 6)


class _Clock:
    """Milliseconds by stage."""

    def __init__(self, spent: float = 0.0) -> None:
        """Begin, as if so many seconds ago."""
        self._start = self._last = time.perf_counter() - spent
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps[stage] = round(self._laps.get(stage, 0.0) + (now - self._last) * 1e3, 3)
        self._last = now

    def read(self) -> dict[str, float]:
        return {**self._laps, "total": round((time.perf_counter() - self._start) * 1e3, 3)}
