"""Texts to what a pack's frozen text towers say of them, through ONNX Runtime and a cache.

Texts are cut into tokens by `sceneseek.tokenizer`, as the server does it. The cache is keyed by the text,
and by the graph (which holds the tower's weights), the tokenizer and the length limit.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from sceneseek.manifest import Tower
from sceneseek.progress import Progress
from sceneseek.runtime import Device, Session, open_session
from sceneseek.tokenizer import Tokenizer
from sceneseek.vectors import Floats
from sceneseek_export.alignment import normalise
from sceneseek_export.packs import Pack
from sceneseek_export.towers import TextTower, load_text_tower
from sceneseek_training.cache import FeatureCache, content_key

BATCH = 64


class TextTowers:
    """The text towers of a pack.

    Args:
        pack: names them and says how long a text may be.
        cache: the directory of feature caches.
        device, threads: see `open_session`.

    Raises:
        ExportError: a tower's source is missing or of another version.
    """

    def __init__(self, pack: Pack, cache: Path, device: Device = "auto", threads: int = 0) -> None:
        self.towers: tuple[TextTower, ...] = tuple(load_text_tower(spec) for spec in pack.text_towers)
        self._running = [_Running(tower, cache, device, threads) for tower in self.towers]

    @property
    def provenance(self) -> list[Tower]:
        """Where the towers come from."""
        return [tower.provenance() for tower in self.towers]

    def describe(self, label: str, texts: Sequence[str]) -> dict[str, Floats]:
        """By tower, vectors (M, T) of length 1.

        Args:
            label: what the texts are called in messages.
            texts: any strings; those over a tower's limit are cut at the end.
        """
        return {tower.name: tower.describe(label, texts) for tower in self._running}


class _Running:
    """One tower, its graph and tokenizer made when they are first needed."""

    def __init__(self, tower: TextTower, cache: Path, device: Device, threads: int) -> None:
        self.name = tower.spec.name
        self._tower, self._cache, self._device, self._threads = tower, cache, device, threads

    def describe(self, label: str, texts: Sequence[str]) -> Floats:
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
                    offered = {"input_ids": tokens.ids, "attention_mask": tokens.mask}
                    cache.add(batch, self._session.run({name: offered[name] for name in self._session.inputs}))
                    progress.advance(len(batch))
                cache.flush()
        return normalise(cache.read(keys)["text"])

    @cached_property
    def _fingerprint(self) -> str:
        about = f"{hashlib.sha256(self._tower.tokenizer).hexdigest()}\n{self._tower.input.model_dump_json()}"
        return hashlib.sha256(self._graph + about.encode()).hexdigest()

    @cached_property
    def _graph(self) -> bytes:
        graph: bytes = self._tower.to_onnx().SerializeToString(deterministic=True)
        return graph

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self._tower.input.tokenizer
            path.write_bytes(self._tower.tokenizer)
            return Tokenizer(path, self._tower.input)

    @cached_property
    def _session(self) -> Session:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.onnx"
            path.write_bytes(self._graph)
            return open_session(path, self._device, self._threads)
