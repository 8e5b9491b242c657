"""A query's text or image to its vectors: cached, batched with other callers' queries, limited in number and time.

One encoder serves all bundles that come and go while a service runs: each call names the models to encode with. Texts
are tokenized in the caller's thread, and only texts of equal length run together: one of 128 tokens would make thirty
short ones pay for their padding. So a batch takes the oldest text and those of its length.

`QueryEncoder.direct` is the same for one caller at a time, such as the command line: no threads, no cache, no limits.
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
# A picture takes the graph twenty times as long as a text, and its pixels a thousand times the memory.
IMAGES = Batching(max_batch=4, max_waiting=32)
CACHED_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class Encoded:
    """One query in the joint space.

    Attributes:
        joint: (D,), of length 1.
        head: (H,), H may be 0.
        truncated: whether a text was longer than some tower reads.
        cached: whether it had been encoded before.
    """

    joint: Floats
    head: Floats
    truncated: bool = False
    cached: bool = False


class QueryEncoder:
    """Queries to vectors. Thread-safe.

    Args:
        texts: how texts are batched; None runs each alone in its caller's thread.
        images: how images are; their threads start with the first one.
        cached_texts: how many texts' vectors are cached, the least recently used evicted first; 0 caches none.
        observer: notified of runs, rejections and cache hits.
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
        """Each query runs in its caller's thread."""
        return cls(texts=None, images=None, cached_texts=0)

    def text(self, models: Models, text: str, deadline: float | None = None) -> Encoded:
        """Encode one text.

        Args:
            models: what to encode it with.
            text: as `checked_query` gives it.
            deadline: on the clock of `time.monotonic`.

        Raises:
            Overloaded: too many texts wait.
            DeadlinePassed: it would come too late.
            WorkerLost: the worker thread died.
        """
        return self.texts(models, [text], deadline)[0]

    def texts(self, models: Models, texts: Sequence[str], deadline: float | None = None) -> list[Encoded]:
        """Encode many texts, each an item of its own beside those of other callers; see `text`."""
        fingerprint = models.bundle.manifest.fingerprints.bundle
        keys = [(fingerprint, text) for text in texts]
        with self._lock:
            found = [self._cache.get(key) for key in keys]
        if self._cache.maxsize:
            for known in found:
                self._observer.looked_up(known is not None)
        missing = [text for text, known in zip(texts, found, strict=True) if known is None]
        fresh = self._encode(models, missing, deadline)
        if self._cache.maxsize:
            with self._lock:
                for text, encoded in zip(missing, fresh, strict=True):
                    self._cache[fingerprint, text] = replace(encoded, cached=True)
        encoded_now = iter(fresh)
        return [known or next(encoded_now) for known in found]

    def image(self, models: Models, pixels: tuple[Pixels, ...], deadline: float | None = None) -> Encoded:
        """Encode one image, as `preprocess.prepare` gives it; see `text`."""
        (encoded,) = self._image_runs().run(_ImageWork(models.images), [pixels], deadline)
        return encoded

    def problem(self) -> str | None:
        """Why it cannot encode now, for the health check; None if it can."""
        return self._texts.problem() or (self._images.problem() if self._images else None)

    def waiting(self) -> dict[str, int]:
        """How many items wait, by kind."""
        return {"texts": self._texts.waiting(), "images": self._images.waiting() if self._images else 0}

    def cached(self) -> int:
        """How many texts' vectors are cached."""
        return len(self._cache)

    def close(self) -> None:
        """Run the waiting items and end the threads."""
        self._texts.close()
        if self._images is not None:
            self._images.close()

    def _encode(self, models: Models, texts: Sequence[str], deadline: float | None) -> list[Encoded]:
        """One call for each length in tokens: a batcher takes one work at a time."""
        tokens = [models.encoder.tokenize([text]) for text in texts]
        # In the caller's thread: it may run the graph. Not at all where each text runs alone.
        at_most = 1 if isinstance(self._texts, _Direct) or models.texts_mix else 2**16
        places: dict[_TextWork, list[int]] = {}
        for place, each in enumerate(tokens):
            lengths = tuple(batch.ids.shape[1] for batch in each.values())
            places.setdefault(_TextWork(models.encoder, lengths, at_most), []).append(place)
        encoded: dict[int, Encoded] = {}
        for work, those in places.items():
            encoded |= zip(those, self._texts.run(work, [tokens[i] for i in those], deadline), strict=True)
        return [encoded[place] for place in range(len(texts))]

    def _image_runs(self) -> _Runs[_Picture]:
        with self._lock:
            if self._images is None:
                self._images = Batcher("images", self._image_settings, self._observer)
            return self._images


class _Runs(Protocol[Item]):
    """Runs items, in a thread of its own or not; see `Batcher`."""

    def run(self, work: Work[Item, Encoded], items: Sequence[Item], deadline: float | None = None) -> list[Encoded]: ...

    def waiting(self) -> int: ...

    def problem(self) -> str | None: ...

    def close(self) -> None: ...


class _Direct(_Runs[Item]):
    """Each item runs alone, at once, in its caller's thread."""

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
    """A run of `text.onnx` on texts of the same lengths, one a tower."""

    encoder: TextEncoder
    lengths: tuple[int, ...]
    at_most: int

    def __call__(self, items: Sequence[TowerTokens]) -> list[Encoded]:
        tokens = together(items)
        return _each(self.encoder.encode_tokens(tokens), truncated(tokens))


@dataclass(frozen=True, slots=True)
class _ImageWork:
    """A run of `image.onnx`."""

    encoder: ImageEncoder
    at_most: int = 2**16

    def __call__(self, items: Sequence[_Picture]) -> list[Encoded]:
        return _each(self.encoder.encode(items), [False] * len(items))


def _each(vectors: Vectors, cut: Sequence[bool]) -> list[Encoded]:
    # Copies: a cached row would hold its whole batch in memory.
    return [
        Encoded(joint.copy(), head.copy(), each)
        for joint, head, each in zip(vectors.joint, vectors.head, cut, strict=True)
    ]
