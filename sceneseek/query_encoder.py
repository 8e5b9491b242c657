"""The query encoder: texts and images to vectors, with a cache, batching across callers, a bounded queue and deadlines.

One encoder serves every bundle that a service loads: each call names the models to use. Texts are tokenized in the
caller's thread, and only texts of equal length are batched, since one text of 128 tokens would pad thirty short ones to
its length. A batch consists of the oldest text and those of the same length.

`QueryEncoder.direct` is for a single caller, such as the command line: no threads, no cache, no limits.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from cachetools import LRUCache

from sceneseek.batching import Batcher, Batching, NullObserver, Observer, Work
from sceneseek.encoders import ImageEncoder, TextEncoder, TowerTokens, together, truncated
from sceneseek.models import Models
from sceneseek.preprocess import Pixels
from sceneseek.vectors import Floats, Vectors

Item = TypeVar("Item")
_Picture = tuple[Pixels, ...]

TEXTS = Batching()
# A picture takes twenty times as long to encode as a text, and its pixels a thousand times the memory.
IMAGES = Batching(max_batch=4, max_waiting=32)
CACHED_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class Encoded:
    """The vectors of one text or image.

    Attributes:
        joint: unit vector (D,) in the joint space.
        head: (H,), H may be 0.
        truncated: whether the text exceeds the limit of any tower.
        cached: whether the vectors came from the cache.
    """

    joint: Floats
    head: Floats
    truncated: bool = False
    cached: bool = False


class QueryEncoder:
    """Encodes the texts and images of queries. Thread-safe.

    Args:
        texts: batching of texts; None encodes each text alone in its caller's thread.
        images: batching of images, likewise; the worker thread starts with the first image.
        cached_texts: size of the LRU cache of texts' vectors; 0 disables it.
        observer: notified of runs, rejections and cache lookups.
    """

    def __init__(
        self,
        texts: Batching | None = TEXTS,
        images: Batching | None = IMAGES,
        cached_texts: int = CACHED_TEXTS,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer or NullObserver()
        self._cache: LRUCache[tuple[str, str], Encoded] = LRUCache(cached_texts)
        self._texts: _Runs[TowerTokens] = Batcher("texts", texts, self._observer) if texts else _Direct()
        self._images: _Runs[_Picture] | None = None if images else _Direct()
        self._image_settings = images or IMAGES
        self._lock = threading.Lock()

    @classmethod
    def direct(cls) -> QueryEncoder:
        """An encoder that encodes each query in its caller's thread."""
        return cls(texts=None, images=None, cached_texts=0)

    def text(self, models: Models, text: str, deadline: float | None = None) -> Encoded:
        """Encode one text.

        Args:
            models: the models to use.
            text: as returned by `checked_query`.
            deadline: on the clock of `time.monotonic`.

        Raises:
            Overloaded: the queue is full.
            DeadlinePassed: the text was not encoded before the deadline.
            WorkerLost: the worker thread died.
        """
        return self.texts(models, [text], deadline)[0]

    def texts(self, models: Models, texts: Sequence[str], deadline: float | None = None) -> list[Encoded]:
        """Encode several texts, each batched individually with those of other callers; see `text`."""
        fingerprint = models.bundle.manifest.fingerprints.bundle
        keys = [(fingerprint, text) for text in texts]
        with self._lock:
            hits = [self._cache.get(key) for key in keys]
        if self._cache.maxsize:
            for hit in hits:
                self._observer.looked_up(hit is not None)
        missing = [text for text, hit in zip(texts, hits, strict=True) if hit is None]
        fresh = self._encode(models, missing, deadline)
        if self._cache.maxsize:
            with self._lock:
                for text, encoded in zip(missing, fresh, strict=True):
                    self._cache[fingerprint, text] = replace(encoded, cached=True)
        misses = iter(fresh)
        return [hit or next(misses) for hit in hits]

    def image(self, models: Models, pixels: tuple[Pixels, ...], deadline: float | None = None) -> Encoded:
        """Encode one image, as returned by `preprocess.prepare`; see `text`."""
        (encoded,) = self._image_runs().run(_ImageWork(models.images), [pixels], deadline)
        return encoded

    def problem(self) -> str | None:
        """Why nothing can be encoded now, for the health check; None if healthy."""
        return self._texts.problem() or (self._images.problem() if self._images else None)

    def waiting(self) -> dict[str, int]:
        """The number of queued items, by kind."""
        return {"texts": self._texts.waiting(), "images": self._images.waiting() if self._images else 0}

    def cached(self) -> int:
        """The number of cached texts."""
        return len(self._cache)

    def close(self) -> None:
        """Run the queued items and stop the threads."""
        self._texts.close()
        if self._images is not None:
            self._images.close()

    def _encode(self, models: Models, texts: Sequence[str], deadline: float | None) -> list[Encoded]:
        """Encode texts grouped by length in tokens, since a batcher runs one kind of work at a time."""
        tokens = [models.encoder.tokenize([text]) for text in texts]
        # `texts_mix` may run the graph, so it is read in the caller's thread, and only if texts are batched.
        at_most = 1 if isinstance(self._texts, _Direct) or models.texts_mix else 2**16
        places: dict[_TextWork, list[int]] = {}
        for place, each in enumerate(tokens):
            lengths = tuple(batch.ids.shape[1] for batch in each.values())
            places.setdefault(_TextWork(models.encoder, lengths, at_most), []).append(place)
        encoded: dict[int, Encoded] = {}
        for work, group in places.items():
            encoded |= zip(group, self._texts.run(work, [tokens[i] for i in group], deadline), strict=True)
        return [encoded[place] for place in range(len(texts))]

    def _image_runs(self) -> _Runs[_Picture]:
        with self._lock:
            if self._images is None:
                self._images = Batcher("images", self._image_settings, self._observer)
            return self._images


class _Runs(Protocol[Item]):
    """Runs items, in a worker thread or the caller's; see `Batcher`."""

    def run(self, work: Work[Item, Encoded], items: Sequence[Item], deadline: float | None = None) -> list[Encoded]: ...

    def waiting(self) -> int: ...

    def problem(self) -> str | None: ...

    def close(self) -> None: ...


class _Direct(_Runs[Item]):
    """Runs each item alone, immediately, in the caller's thread."""

    def run(self, work: Work[Item, Encoded], items: Sequence[Item], deadline: float | None = None) -> list[Encoded]:  # noqa: ARG002
        return [work([item])[0] for item in items]

    def waiting(self) -> int:
        return 0

    def problem(self) -> str | None:
        return None

    def close(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _TextWork:
    """A run of `text.onnx` on texts of the same lengths, one length per tower."""

    encoder: TextEncoder
    lengths: tuple[int, ...]
    at_most: int

    def __call__(self, items: Sequence[TowerTokens]) -> list[Encoded]:
        tokens = together(items)
        return _split(self.encoder.encode_tokens(tokens), truncated(tokens))


@dataclass(frozen=True, slots=True)
class _ImageWork:
    """A run of `image.onnx`."""

    encoder: ImageEncoder
    at_most: int = 2**16

    def __call__(self, items: Sequence[_Picture]) -> list[Encoded]:
        return _split(self.encoder.encode(items), [False] * len(items))


def _split(vectors: Vectors, cut: Sequence[bool]) -> list[Encoded]:
    # Copy the rows: a cached view would keep its whole batch in memory.
    return [
        Encoded(joint.copy(), head.copy(), each)
        for joint, head, each in zip(vectors.joint, vectors.head, cut, strict=True)
    ]
