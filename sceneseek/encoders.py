"""Pixels and texts to vectors: one run of one graph each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sceneseek.bundle import Bundle
from sceneseek.preprocess import Pixels
from sceneseek.runtime import Device, open_session
from sceneseek.tokenizer import Tokenizer, Tokens
from sceneseek.vectors import Vectors

TowerTokens = Mapping[str, Tokens]

# Vectors of length 1 that are this near point the same way: fp32 stays a thousand times below it.
_SAME = 1e-4


class ImageEncoder:
    """`image.onnx` of a bundle. Thread-safe.

    Attributes:
        inputs: what the graph reads of an image.
        placement: where it runs.

    Raises:
        BundleError, RuntimeUnavailable: see `open_session`.
    """

    def __init__(self, bundle: Bundle, device: Device = "auto", threads: int = 0) -> None:
        self.inputs = bundle.manifest.image_inputs
        self._session = open_session(bundle.image_graph, device, threads)
        self.placement = self._session.placement

    def encode(self, images: Sequence[tuple[Pixels, ...]]) -> Vectors:
        """Encode a batch.

        Args:
            images: for each image one uint8 (H, W, 3) array an image input, as `preprocess.prepare` gives.
        """
        feed = {spec.name: np.stack([image[i] for image in images]) for i, spec in enumerate(self.inputs)}
        found = self._session.run(feed)
        return Vectors(found["joint"], found["head"])


class TextEncoder:
    """The tokenizers and `text.onnx` of a bundle. Thread-safe.

    Attributes:
        placement: where the graph runs.

    Raises:
        BundleError, RuntimeUnavailable: see `open_session`.
    """

    def __init__(self, bundle: Bundle, device: Device = "auto", threads: int = 0) -> None:
        self._tokenizers = {s.name: Tokenizer(bundle.tokenizer(s), s) for s in bundle.manifest.text_inputs}
        self._session = open_session(bundle.text_graph, device, threads)
        self.placement = self._session.placement

    def tokenize(self, texts: list[str]) -> TowerTokens:
        """Token ids and masks of a batch of texts, by text tower."""
        return {name: tokenizer(texts) for name, tokenizer in self._tokenizers.items()}

    def encode_tokens(self, tokens: TowerTokens) -> Vectors:
        """Encode a tokenized batch."""
        offered: dict[str, np.ndarray] = {}
        for name, batch in tokens.items():
            offered |= {f"{name}.input_ids": batch.ids, f"{name}.attention_mask": batch.mask}
        found = self._session.run({name: offered[name] for name in self._session.inputs})
        return Vectors(found["joint"], found["head"])

    def encode(self, texts: list[str]) -> Vectors:
        """Encode a batch of texts."""
        return self.encode_tokens(self.tokenize(texts))


def truncated(tokens: TowerTokens) -> list[bool]:
    """Per text whether some tower reads only its beginning."""
    return [any(cut) for cut in zip(*(batch.truncated for batch in tokens.values()), strict=True)]


def together(batches: Sequence[TowerTokens]) -> TowerTokens:
    """Several tokenized batches as one; each tower's are of one length."""
    return {
        name: Tokens(
            np.concatenate([batch[name].ids for batch in batches]),
            np.concatenate([batch[name].mask for batch in batches]),
            tuple(cut for batch in batches for cut in batch[name].truncated),
        )
        for name in batches[0]
    }


def alike(alone: Sequence[Vectors], batch: Vectors) -> bool:
    """Whether what was encoded alone has the vectors in a batch that it had alone.

    It has not where a graph was quantised dynamically: the levels are then taken from all that runs together.
    """
    joint = np.concatenate([vectors.joint for vectors in alone])
    return bool(np.all(1.0 - np.sum(joint * batch.joint, axis=1) <= _SAME))
