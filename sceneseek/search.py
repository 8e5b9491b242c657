"""The search pipeline: query -> vectors -> candidates -> scores -> the requested page of results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from sceneseek.alias_follower import AliasFollower, Snapshot
from sceneseek.api import Answer, Explanation, Hint, Result, Scored, Scores
from sceneseek.bundle import Bundle, MatchThreshold
from sceneseek.errors import IndexUnavailable, NoSuchImage, TryAgain
from sceneseek.filters.conditions import TEXT_TOKENS, FieldPath, HasValue, field_path, json_path
from sceneseek.hints import filter_hints, negation_hint, unknown_field
from sceneseek.local_folder import SourceFile
from sceneseek.models import ModelRegistry, Models
from sceneseek.payload import address_of, describe, open_source_file, values_at
from sceneseek.picture import Picture
from sceneseek.preprocess import prepare
from sceneseek.queries import Query
from sceneseek.query_encoder import Encoded, QueryEncoder
from sceneseek.request import MAX_SHORTLIST, SORTED_SHORTLIST, checked_query
from sceneseek.reranker import Ranked, Ranking, Reranker, combined, matches, sorted_by_field, top_results
from sceneseek.runtime import Placement
from sceneseek.store import CollectionInfo, Record, StoredVectors, VectorStore
from sceneseek.store.base import JOINT
from sceneseek.terms import Part
from sceneseek.vectors import Candidates, Floats, unit_vector

if TYPE_CHECKING:
    from sceneseek.text_matches import TextMatches

# Texts encoded per call for one caller, so that other callers' texts are interleaved.
_TEXTS_PER_BATCH = 32


class _QueryVectors:
    """The encoded parts of a query, mixed in the joint space by their weights.

    Attributes:
        texts: (weight, encoded text) pairs.
        joint: weighted mean (D,) of all parts, of length 1.
        mixed: whether there are several parts; candidates' similarities are then not those to a text.
        scored: whether results have scores: if any text has a weight that is not negative.
        by_score: whether results are ordered by score: if all parts are texts.
    """

    def __init__(self, parts: Sequence[tuple[float, Encoded | Floats]]) -> None:
        self.texts = [(weight, part) for weight, part in parts if isinstance(part, Encoded)]
        self._images = [part for _, part in parts if not isinstance(part, Encoded)]
        self.mixed = len(parts) > 1
        self.scored = any(weight >= 0 for weight, _ in self.texts)
        self.by_score = not self._images
        joints = [part.joint if isinstance(part, Encoded) else part for _, part in parts]
        self.joint = joints[0]
        if self.mixed:
            mixed = np.stack(joints).T @ np.array([weight for weight, _ in parts], np.float32)
            # Opposite vectors of equal weight cancel out: all images are then equally near.
            self.joint = mixed / np.maximum(np.linalg.norm(mixed), np.float32(1e-6))

    def score(self, reranker: Reranker, candidates: Candidates) -> Floats:
        """Scores (N,) of candidates, which need joint vectors if several parts are mixed; see `combined`."""
        scores = []
        for weight, text in self.texts:
            if self.mixed and candidates.joint is not None:
                candidates = replace(candidates, similarity=candidates.joint @ text.joint)
            scores.append((weight, reranker.score(candidates, text.joint, text.head)))
        return combined(scores)

    def explanation(self, rank: int, ranked: Ranked, joint: Floats) -> Explanation:
        """The explanation of the rank of an image whose vector is `joint` (D,)."""
        return Explanation(
            rank_before=ranked.neighbour_rank,
            rank_after=rank,
            text_similarity=_rounded(joint @ self.texts[0][1].joint) if len(self.texts) == 1 else None,
            image_similarity=_rounded(joint @ self._images[0]) if len(self._images) == 1 else None,
        )


class Search:
    """The pipeline over one bundle and one store. Thread-safe.

    Args:
        models: loads the models for each generation.
        store: holds the generations.
        encoder: the query encoder; by default each query is encoded in its caller's thread.
        serving: wait for an index that does not exist yet (see `AliasFollower`), and warm up each new generation
            with one query before it serves users.

    Attributes:
        follower: the live generation and its models.
        encoder: the query encoder.
        store: holds the generations.

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
        """The bundle in use."""
        return self.follower.models.bundle

    @property
    def placement(self) -> Placement:
        """The device that runs the text graph."""
        return self.follower.models.encoder.placement

    def query(self, query: Query, deadline: float | None = None, pictures: Sequence[Picture] = ()) -> Answer:
        """The images that match a query best.

        The candidates are the nearest neighbours of the weighted mean of all parts. Text-only queries are ordered by
        score, and equal scores (a stepwise calibration yields them) by similarity. Queries with an image or a vector
        are ordered by similarity to the mean; scores are then those of the texts. The order does not depend on
        `offset`, provided that k, the shortlist and the rest of the query stay the same.

        Args:
            query: the query.
            deadline: time after which the answer is of no use, on the clock of `time.monotonic`.
            pictures: pictures to search by, in addition to the indexed images that the query names.

        Raises:
            InvalidRequest: see `Query.parts`; or a vector does not fit the joint space.
            NotFound: an image to search by is not in the index.
            TryAgain: see `QueryEncoder.text`; or the deadline has passed.
            IndexUnavailable: the index does not respond, or not before the deadline.
        """
        return self.queries([query], deadline, pictures)[0]

    def queries(
        self, queries: Sequence[Query], deadline: float | None = None, pictures: Sequence[Picture] = ()
    ) -> list[Answer]:
        """The answers to several queries, all from the same generation.

        The texts are encoded together, and each answer's timings include an equal share of that.

        Raises: see `query`.
        """
        with self.follower.borrow() as snapshot:
            return self._answers(snapshot, queries, deadline, pictures)

    def address_of(self, image: str) -> str:
        """The address of an image's file at the time of indexing: a path, or a URL ``s3://...``.

        Raises:
            NotFound: the image is not in the index.
        """
        return address_of(*self._record(image))

    def open_file(self, image: str) -> SourceFile:
        """Open the file of an indexed image.

        Raises:
            NotFound: the image is not in the index, or its file no longer exists.
            SourceAway: the object store of its source does not respond.
        """
        return open_source_file(*self._record(image))

    def _record(self, image: str) -> tuple[CollectionInfo, dict[str, Any]]:
        with self.follower.borrow() as snapshot:
            records = snapshot.collection.retrieve([image])
            if not records:
                raise NoSuchImage(image)
            return snapshot.collection.info, records[0].payload

    def _answers(
        self,
        snapshot: Snapshot[Models],
        queries: Sequence[Query],
        deadline: float | None,
        pictures: Sequence[Picture],
    ) -> list[Answer]:
        start = time.perf_counter()
        parts_by_query = [query.parts(len(pictures)) for query in queries]
        texts = [part.text for parts in parts_by_query for part in parts if part.text is not None]
        encoded = iter(self.encoder.texts(snapshot.models, texts, deadline))
        share = (time.perf_counter() - start) / len(queries)
        answers = []
        for query, parts in zip(queries, parts_by_query, strict=True):
            clock = _Clock(share)
            vectors = _QueryVectors(
                [
                    (
                        part.weight,
                        next(encoded)
                        if part.text is not None
                        else self._part_vector(snapshot, part, pictures, deadline),
                    )
                    for part in parts
                ]
            )
            clock.lap("encode")
            answers.append(self._answer(snapshot, query, vectors, clock, deadline))
        return answers

    def _part_vector(
        self, snapshot: Snapshot[Models], part: Part, pictures: Sequence[Picture], deadline: float | None
    ) -> Floats:
        """The vector (D,) of an image or vector part, of length 1."""
        if part.vector is not None:
            return unit_vector(part.vector, snapshot.models.bundle.manifest.dimensions.joint)
        image = pictures[part.image] if isinstance(part.image, int) else str(part.image)
        return self._image_vectors(snapshot, image, deadline).joint

    def _answer(
        self,
        snapshot: Snapshot[Models],
        query: Query,
        vectors: _QueryVectors,
        clock: _Clock,
        deadline: float | None,
    ) -> Answer:
        collection, manifest = snapshot.collection, snapshot.models.bundle.manifest
        rule = manifest.head.match if vectors.scored else None
        text_matches = self._text_matches(snapshot, query, vectors, deadline)
        ranking = self._ranking(snapshot, query, vectors, rule, text_matches, clock, deadline)
        after = query.offset + query.k
        if query.sort is None:
            chosen = top_results(collection, ranking.blocks(), after, query.keep_duplicates, query.images, deadline)
            has_more = len(chosen) == after and ranking.may_have_more(len(chosen))
        else:
            block = next(ranking.blocks())
            if vectors.by_score:
                block = [ranked for ranked in block if matches(rule, ranked.score) is not False]
            distinct = top_results(collection, [block], len(block), query.keep_duplicates, query.images, deadline)
            chosen = sorted_by_field(distinct, query.sort)
            has_more = len(chosen) > after
        page = chosen[query.offset : after]
        clock.lap("payload")
        results = tuple(
            Result(
                rank=rank,
                **describe(record),
                score=None if ranked.score is None else _rounded(ranked.score),
                match=matches(rule, ranked.score),
                similarity=_rounded(ranked.similarity),
                text_match=None if text_matches is None else _rounded(text_matches.coverage.get(record.id, 0.0)),
                explanation=vectors.explanation(rank, ranked, ranked.joint)
                if query.explain and ranked.joint is not None
                else None,
            )
            for rank, (ranked, record) in enumerate(page, start=query.offset + 1)
        )
        return Answer(
            query=query.words,
            truncated=any(text.truncated for _, text in vectors.texts),
            match=matches(rule, ranking.best),
            matches=ranking.matching,
            results=results,
            offset=query.offset,
            next_offset=after if has_more and after < MAX_SHORTLIST else None,
            shortlist=ranking.scored,
            generation=collection.info.name,
            bundle=manifest.fingerprints.bundle,
            calibrated=manifest.head.calibrated,
            threshold=None if rule is None else rule.threshold,
            timings_ms=clock.read(),
            hints=self._hints(snapshot, query, vectors, chosen, deadline),
        )

    def score(self, text: str, images: Sequence[str | Picture], deadline: float | None = None) -> Scores:
        """Scores of a text for the given images.

        Args:
            text: description of a scene.
            images: ids of indexed images, and pictures.
            deadline: see `query`.

        Raises:
            InvalidRequest: the text is not a valid query.
            NotFound: one of the ids is not in the index.
            TryAgain: see `QueryEncoder.text`.
        """
        clock, text = _Clock(), checked_query(text)
        with self.follower.borrow() as snapshot:
            models = snapshot.models
            encoded = self.encoder.text(models, text, deadline)
            vectors = [self._image_vectors(snapshot, image, deadline) for image in images]
            clock.lap("encode")
            joint = np.stack([each.joint for each in vectors])
            similarity = joint @ encoded.joint
            candidates = Candidates([""] * len(vectors), similarity, joint, np.stack([each.head for each in vectors]))
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

    def embed_texts(self, texts: Sequence[str], deadline: float | None = None) -> tuple[Floats, int]:
        """Joint vectors (N, D) of texts, and their total number of tokens.

        Raises:
            TryAgain: see `QueryEncoder.text`.
        """
        with self.follower.borrow() as snapshot:
            models = snapshot.models
            joint = [
                encoded.joint
                for start in range(0, len(texts), _TEXTS_PER_BATCH)
                for encoded in self.encoder.texts(models, texts[start : start + _TEXTS_PER_BATCH], deadline)
            ]
            tokens = next(iter(models.encoder.tokenize([*texts]).values()))
            return np.stack(joint), int(tokens.mask.sum())

    def embed_pictures(self, pictures: Sequence[Picture], deadline: float | None = None) -> Floats:
        """Joint vectors (N, D) of pictures.

        Raises:
            TryAgain: see `QueryEncoder.text`.
        """
        with self.follower.borrow() as snapshot:
            return np.stack([self._image_vectors(snapshot, picture, deadline).joint for picture in pictures])

    def close(self) -> None:
        """Stop the encoder's threads and close the index."""
        self.encoder.close()
        self.follower.close()

    def _warm_up(self, snapshot: Snapshot[Models]) -> None:
        self._answers(snapshot, [Query(text="warm-up", k=1)], None, ())

    def _image_vectors(self, snapshot: Snapshot[Models], image: str | Picture, deadline: float | None) -> StoredVectors:
        """The vectors of an indexed image (by id) or of a picture."""
        if isinstance(image, str):
            stored = snapshot.collection.vectors([image], deadline)
            if image not in stored:
                raise NoSuchImage(image)
            return stored[image]
        models = snapshot.models
        encoded = self.encoder.image(models, prepare(image, models.bundle.manifest.image_inputs), deadline)
        return StoredVectors(encoded.joint, encoded.head)

    @staticmethod
    def _hints(
        snapshot: Snapshot[Models],
        query: Query,
        vectors: _QueryVectors,
        results: Sequence[tuple[Ranked, Record]],
        deadline: float | None,
    ) -> tuple[Hint, ...]:
        """Hints on the query; its filter is checked only if nothing was found."""
        collection = snapshot.collection

        def is_empty(field: FieldPath) -> bool:
            try:
                return not collection.nearest(vectors.joint, 1, where=HasValue(field), deadline=deadline).ids
            except (IndexUnavailable, TryAgain):  # hints are best effort: do not lose the answer
                return False

        hints = [negation_hint(query.text)] if query.text is not None and not query.terms else []
        if query.where is not None and not results:
            hints += filter_hints(query.where, collection.info, is_empty)
        if query.sort is not None and results:
            path = field_path(query.sort.removeprefix("-"))
            if not any(True for _, record in results for _ in values_at(record.payload, path)) and is_empty(path):
                hints.append(unknown_field(path, collection.info))
        return tuple(hint for hint in hints if hint is not None)

    @staticmethod
    def _text_matches(
        snapshot: Snapshot[Models], query: Query, vectors: _QueryVectors, deadline: float | None
    ) -> TextMatches | None:
        """Matches in the text within pictures; None unless the query is a single text and the index has such texts."""
        if len(vectors.texts) != 1 or vectors.mixed or json_path(TEXT_TOKENS) not in snapshot.collection.info.indexed:
            return None
        # Deferred import: few collections have texts.
        from sceneseek.text_matches import TextMatches  # noqa: PLC0415

        return TextMatches(snapshot.collection, query.words or "", query.where, deadline)

    @staticmethod
    def _ranking(
        snapshot: Snapshot[Models],
        query: Query,
        vectors: _QueryVectors,
        rule: MatchThreshold | None,
        text_matches: TextMatches | None,
        clock: _Clock,
        deadline: float | None,
    ) -> Ranking:
        reranker = snapshot.models.reranker
        needed = reranker.vectors_read() if vectors.scored else ()
        if query.explain or (vectors.scored and vectors.mixed):
            needed = (JOINT, *(name for name in needed if name != JOINT))

        def find(limit: int) -> Candidates:
            clock.lap("payload")
            candidates = snapshot.collection.nearest(vectors.joint, limit, needed, where=query.where, deadline=deadline)
            if text_matches is not None:
                candidates = text_matches.extend(candidates, vectors.joint, needed)
            clock.lap("shortlist")
            return candidates

        def score(candidates: Candidates) -> Floats | None:
            if not vectors.scored:
                return None
            scores = vectors.score(reranker, candidates)
            if text_matches is not None:
                scores = text_matches.scores(candidates.ids, scores)
            clock.lap("score")
            return scores

        first = max(query.shortlist, query.k if query.sort is None else SORTED_SHORTLIST)
        return Ranking(find, score, vectors.by_score, first, query.min_score, rule)


def _rounded(value: SupportsFloat) -> float:
    """A score or a cosine, rounded to six decimals, the precision of a float32."""
    return round(float(value), 6)


class _Clock:
    """Measures milliseconds by stage; `spent` seconds are counted as already elapsed."""

    def __init__(self, spent: float = 0.0) -> None:
        self._start = self._last = time.perf_counter() - spent
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps[stage] = round(self._laps.get(stage, 0.0) + (now - self._last) * 1e3, 3)
        self._last = now

    def read(self) -> dict[str, float]:
        return {**self._laps, "total": round((time.perf_counter() - self._start) * 1e3, 3)}
