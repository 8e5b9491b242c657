"""The query encoder returns equal vectors alone, batched and from its cache, with real threads and models."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sceneseek.batching import Batching
from sceneseek.bundle import Bundle, Manifest
from sceneseek.encoders import alike
from sceneseek.models import Models
from sceneseek.picture import decode
from sceneseek.preprocess import Pixels, prepare
from sceneseek.query_encoder import Encoded, QueryEncoder
from sceneseek.vectors import Vectors

TEXTS = [
    "a red circle",
    "the sea at night",
    "two dogs run over a meadow",
    "a house",
    "horse " * 60,
    "кошка",
    "🐶",
    "a cup",
]


class RecordingObserver:
    """Records the runs and the cache lookups."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int]] = []
        self.hits: list[bool] = []

    def ran(self, kind: str, size: int, seconds: float) -> None:  # noqa: ARG002
        self.runs.append((kind, size))

    def waited(self, kind: str, seconds: float) -> None:
        """Ignored."""

    def refused(self, kind: str, reason: str) -> None:
        raise AssertionError((kind, reason))

    def looked_up(self, hit: bool) -> None:
        self.hits.append(hit)


@pytest.fixture(scope="module")
def models(bundle: Bundle) -> Models:
    return Models.load(bundle, "cpu", 0)


@pytest.fixture(scope="module")
def single_encodings(models: Models) -> dict[str, Encoded]:
    direct = QueryEncoder.direct()
    return {text: direct.text(models, text) for text in TEXTS}


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def encoder(observer: RecordingObserver) -> Iterator[QueryEncoder]:
    made = QueryEncoder(observer=observer, cached_texts=3)
    yield made
    made.close()


def same(one: Encoded, other: Encoded) -> bool:
    return (
        np.allclose(one.joint, other.joint, atol=1e-5)
        and np.allclose(one.head, other.head, atol=1e-4)
        and one.truncated == other.truncated
    )


def test_direct_encoder_starts_no_thread_and_caches_nothing(models: Models) -> None:
    before = threading.active_count()
    direct = QueryEncoder.direct()
    assert not direct.text(models, "a house").cached
    assert not direct.text(models, "a house").cached
    assert threading.active_count() == before
    assert direct.problem() is None


def test_concurrent_texts_are_batched_and_equal_single_encodings(
    models: Models, encoder: QueryEncoder, single_encodings: dict[str, Encoded], observer: RecordingObserver
) -> None:
    texts = [text for text in TEXTS for _ in range(8)]
    with ThreadPoolExecutor(len(texts)) as pool:
        answers = list(pool.map(lambda text: encoder.text(models, text), texts))
    assert all(same(answer, single_encodings[text]) for text, answer in zip(texts, answers, strict=True))
    assert len(observer.runs) < sum(size for _, size in observer.runs)


def test_texts_are_returned_in_input_order(
    models: Models, encoder: QueryEncoder, single_encodings: dict[str, Encoded]
) -> None:
    answers = encoder.texts(models, TEXTS)
    assert all(same(answer, single_encodings[text]) for text, answer in zip(TEXTS, answers, strict=True))
    assert encoder.texts(models, []) == []


def test_texts_are_batched_by_length(models: Models, encoder: QueryEncoder, observer: RecordingObserver) -> None:
    encoder.texts(models, ["a house", "horse " * 60, "the sea", "dog " * 60])
    assert observer.runs == [("texts", 2), ("texts", 2)]


def test_cache_is_keyed_by_bundle_and_evicts_the_least_recently_used(
    models: Models, encoder: QueryEncoder, single_encodings: dict[str, Encoded], observer: RecordingObserver
) -> None:
    first = encoder.text(models, "a house")
    again = encoder.text(models, "a house")
    assert (first.cached, again.cached) == (False, True)
    assert same(again, single_encodings["a house"])
    assert len(observer.runs) == 1
    other = dataclasses.replace(models, bundle=dataclasses.replace(models.bundle, manifest=_renamed(models.bundle)))
    assert not encoder.text(other, "a house").cached
    for text in ("the sea", "a red circle"):
        encoder.text(models, text)
    assert not encoder.text(models, "a house").cached  # three are kept
    assert observer.hits == [False, True, False, False, False, False]


def test_texts_run_one_by_one_if_batching_changes_their_vectors(
    models: Models, encoder: QueryEncoder, observer: RecordingObserver
) -> None:
    class Mixed(Models):
        texts_mix = True

    assert not models.texts_mix
    encoder.texts(Mixed(models.bundle, models.encoder, models.reranker), ["a house", "the sea", "a red circle"])
    assert observer.runs == [("texts", 1)] * 3


def test_direct_encoder_skips_the_batching_check(models: Models) -> None:
    fresh = Models(models.bundle, models.encoder, models.reranker)
    QueryEncoder.direct().texts(fresh, ["a house", "the sea"])
    assert "texts_mix" not in vars(fresh)


def test_alike_detects_vectors_changed_by_batching() -> None:
    rows = np.eye(3, 8, dtype=np.float32)
    head = np.zeros((3, 0), dtype=np.float32)
    rotated = rows.copy()
    rotated[2, :2] = np.sqrt(1 - 0.995**2), 0
    rotated[2, 2] = 0.995
    single = [Vectors(rows[i : i + 1], head[i : i + 1]) for i in range(3)]
    assert alike(single, Vectors(rows, head))
    assert not alike(single, Vectors(rotated, head))


def test_batched_images_equal_those_of_the_indexer(
    models: Models, encoder: QueryEncoder, gallery: Path, observer: RecordingObserver
) -> None:
    pictures = [_pixels(models.bundle, file) for file in sorted(gallery.rglob("*.png"))[:4]]
    expected = [models.images.encode([pixels]) for pixels in pictures]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: encoder.image(models, pictures[i % len(pictures)]), range(8)))
    for i, answer in enumerate(answers):
        assert np.allclose(answer.joint, expected[i % len(pictures)].joint[0], atol=1e-4)
    assert {kind for kind, _ in observer.runs} == {"images"}


def test_full_queue_rejects_queries_and_answers_the_others(models: Models) -> None:
    encoder = QueryEncoder(Batching(max_waiting=4, max_batch=1), cached_texts=0)
    try:
        with ThreadPoolExecutor(32) as pool:
            futures = [pool.submit(encoder.text, models, f"a house of {n} rooms") for n in range(200)]
            errors = [error for future in futures if (error := future.exception(20))]
        assert {type(error).__name__ for error in errors} <= {"Overloaded"}
        assert len(errors) < len(futures)
        assert same(encoder.text(models, "a house"), QueryEncoder.direct().text(models, "a house"))
    finally:
        encoder.close()


def _pixels(bundle: Bundle, file: Path) -> tuple[Pixels, ...]:
    return prepare(decode(file.read_bytes()), bundle.manifest.image_inputs)


def _renamed(bundle: Bundle) -> Manifest:
    prints = replace(bundle.manifest.fingerprints, bundle="f" * 64)
    return replace(bundle.manifest, fingerprints=prints)
