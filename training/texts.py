"""Texts to what a pack's frozen text tower says of them, through ONNX Runtime and a cache.

Texts are cut into tokens by `sceneseek.tokenizer`, as the server does it. The cache is keyed by the text,
and by the graph (which holds the tower's weights), the tokenizer and the length limit.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from export.towers import load_text_tower
from sceneseek.alignment import normalise
from sceneseek.files import sha256_of
from sceneseek.manifest import TextInput, Tower
from sceneseek.packs import Pack
from sceneseek.progress import Progress
from sceneseek.runtime import Device, Session, open_session
from sceneseek.tokenizer import Tokenizer
from sceneseek.vectors import Floats
from training.cache import FeatureCache, content_key

BATCH = 64


class TextTower:
    """The text tower of a pack.

    Args:
        pack: names it and says how long a text may be.
        cache: the directory of feature caches.
        device, threads: see `open_session`.

    Raises:
        ExportError: the tower's source is missing or of another version.
    """

    def __init__(self, pack: Pack, cache: Path, device: Device = "auto", threads: int = 0) -> None:
        self._tower = load_text_tower(pack.text_tower)
        self._spec = TextInput(
            tokenizer=self._tower.tokenizer.name, max_tokens=pack.max_tokens, pad_id=self._tower.pad_id
        )
        self._cache, self._device, self._threads = cache, device, threads

    @property
    def provenance(self) -> Tower:
        """Where the tower comes from."""
        return self._tower.provenance()

    @property
    def width(self) -> int:
        """T, the width of its vectors."""
        return self._tower.width

    def describe(self, label: str, texts: Sequence[str]) -> Floats:
        """Vectors (M, T) of length 1.

        Args:
            label: what the texts are called in messages.
            texts: any strings; those over the tower's limit are cut at the end.
        """
        cache = FeatureCache(self._cache, "texts", self._fingerprint)
        keys = [content_key(text.encode()) for text in texts]
        by_key = dict(zip(keys, texts, strict=True))
        # Texts of like length together: a batch is padded to its longest.
        missing = sorted(cache.missing(keys), key=lambda key: (len(by_key[key]), key))
        if missing:
            with Progress(f"features of {label}", len(missing), "texts") as progress:
                for start in range(0, len(missing), BATCH):
                    batch = missing[start : start + BATCH]
                    tokens = self._tokenizer([by_key[key] for key in batch])
                    feed = {"input_ids": tokens.ids, "attention_mask": tokens.mask}
                    cache.add(batch, self._session.run(feed))
                    progress.advance(len(batch))
                cache.flush()
        return normalise(cache.read(keys)["text"])

    @cached_property
    def _fingerprint(self) -> str:
        about = f"{sha256_of(self._tower.tokenizer)}\n{self._spec.model_dump_json()}"
        return hashlib.sha256(self._graph + about.encode()).hexdigest()

    @cached_property
    def _graph(self) -> bytes:
        graph: bytes = self._tower.to_onnx().SerializeToString(deterministic=True)
        return graph

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self._tower.tokenizer, self._spec)

    @cached_property
    def _session(self) -> Session:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.onnx"
            path.write_bytes(self._graph)
            return open_session(path, self._device, self._threads)
