"""Features of images and texts by a pack's frozen towers, with ONNX Runtime and a cache.

Pictures are prepared by `sceneseek.preprocess`, texts are tokenized by `sceneseek.encoders`, and the towers are those
of a bundle, so training reads the same features as the indexer and the server. Cache keys are the content of the file
or text; the cache's fingerprint covers the graph (with the towers' weights) and the preparation of its inputs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sceneseek.bundle import ImageInput, TextInput
from sceneseek.encoders import Tokenizer
from sceneseek.errors import DataError, ImageError
from sceneseek.picture import decode
from sceneseek.preprocess import Pixels, enough_pixels, prepare
from sceneseek.progress import Progress
from sceneseek.runtime import Device, Session, open_session
from sceneseek.tables import first_few
from sceneseek.vectors import Floats
from sceneseek_export.alignment_maps import normalise
from sceneseek_export.composition import features_graph
from sceneseek_export.packs import Pack
from sceneseek_export.towers import TextTower, load_towers
from sceneseek_training.feature_cache import FeatureCache, content_key

log = logging.getLogger(__name__)

_IMAGES_PER_BATCH, _TEXTS_PER_BATCH = 32, 64
MAX_UNREADABLE = 0.1


@dataclass(frozen=True)
class ImageFeatures:
    """Outputs of the towers for N images: by tower `features` (N, F) and, for classifiers, `logits` (N, C).

    `keys` (N,) uint64 identifies the files' content, see `sceneseek_export.alignment.image_key`.
    """

    features: dict[str, Floats]
    logits: dict[str, Floats]
    keys: npt.NDArray[np.uint64]


class PackEncoder:
    """The towers of a pack, with a cache of their outputs.

    Args:
        pack: the pack, which defines the towers and the preparation of their inputs.
        cache: the directory of feature caches.
        device, threads: see `open_session`.

    Raises:
        ExportError: a tower's source is missing or has another version.
    """

    def __init__(self, pack: Pack, cache: Path, device: Device = "auto", threads: int = 0) -> None:
        self.towers = load_towers(pack)
        self._inputs = tuple(tower.input for tower in self.towers.images)
        self._texts = [_TextTower(tower, cache, device, threads) for tower in self.towers.texts]
        self._cache, self._device, self._threads = cache, device, threads

    @property
    def classifiers(self) -> set[str]:
        """The names of the image towers whose logits are those of ImageNet-1k's 1,000 classes."""
        return {tower.spec.name for tower in self.towers.images if tower.classes == 1000}

    def encode_texts(self, label: str, texts: Sequence[str]) -> dict[str, Floats]:
        """Return vectors (M, T) of length 1 by text tower; texts over a tower's limit are truncated.

        `label` names the texts in progress messages.
        """
        return {tower.name: tower.encode(label, texts) for tower in self._texts}

    def encode_images(
        self, label: str, paths: Sequence[Path], flipped: bool = False
    ) -> tuple[ImageFeatures, npt.NDArray[np.int64]]:
        """Return the features of the images that can be decoded, and their positions in `paths`, ascending.

        Args:
            label: name of the images in messages.
            paths: the files.
            flipped: whether to mirror the prepared pictures left to right.

        Raises:
            DataError: more than a tenth of the files cannot be decoded; a smaller share is logged by name.
        """
        cache = FeatureCache(self._cache, "images", self._fingerprint(flipped))
        reasons: dict[bytes, str] = {}
        keys = [self._key(path, reasons) for path in paths]
        files = dict(zip(keys, paths, strict=True))
        missing = [key for key in cache.missing(keys) if key not in reasons]
        if missing:
            with Progress(f"features of {label}{', mirrored' if flipped else ''}", len(missing), "images") as progress:
                for start in range(0, len(missing), _IMAGES_PER_BATCH):
                    batch = missing[start : start + _IMAGES_PER_BATCH]
                    pictures = dict(self._pictures(batch, files, reasons))
                    if pictures:
                        cache.add(list(pictures), self._run(list(pictures.values()), flipped))
                    progress.advance(len(batch))
                cache.flush()
        kept = np.array([i for i, key in enumerate(keys) if key not in reasons], np.int64)
        self._report(
            label, [f"{p.name} ({reasons[k]})" for k, p in zip(keys, paths, strict=True) if k in reasons], keys
        )
        rows = cache.read([keys[i] for i in kept])
        return (
            ImageFeatures(
                features={tower.spec.name: rows[f"{tower.spec.name}.features"] for tower in self.towers.images},
                logits={t.spec.name: rows[f"{t.spec.name}.logits"] for t in self.towers.images if t.classes},
                keys=np.array([int.from_bytes(keys[i][:8], "big") for i in kept], np.uint64),
            ),
            kept,
        )

    @staticmethod
    def _key(path: Path, reasons: dict[bytes, str]) -> bytes:
        try:
            return content_key(path.read_bytes())
        except OSError as error:
            key = content_key(bytes(path))
            reasons[key] = error.strerror or "unreadable"
            return key

    def _pictures(
        self, batch: Sequence[bytes], files: dict[bytes, Path], reasons: dict[bytes, str]
    ) -> Iterator[tuple[bytes, tuple[Pixels, ...]]]:
        for key in batch:
            try:
                yield key, prepare(decode(files[key].read_bytes(), enough_pixels(self._inputs)), self._inputs)
            except (ImageError, OSError) as error:
                reasons[key] = error.reason if isinstance(error, ImageError) else "unreadable"

    @staticmethod
    def _report(label: str, unreadable: list[str], keys: list[bytes]) -> None:
        if len(unreadable) > MAX_UNREADABLE * len(keys):
            raise DataError(
                f"{label}: {len(unreadable):,} of {len(keys):,} images cannot be decoded: {first_few(unreadable)}",
                "repair them, or remove them from the split",
            )
        if unreadable:
            log.warning("%s: %d images cannot be decoded: %s", label, len(unreadable), first_few(unreadable))

    def _run(self, pictures: list[tuple[Pixels, ...]], flipped: bool) -> dict[str, Floats]:
        feed = {}
        for i, spec in enumerate(self._inputs):
            pixels = np.stack([picture[i] for picture in pictures])
            feed[spec.name] = np.ascontiguousarray(pixels[:, :, ::-1]) if flipped else pixels
        return self._session.run(feed)

    def _fingerprint(self, flipped: bool) -> str:
        inputs = "\n".join(map(_json, self._inputs))
        about = f"{inputs}\n{enough_pixels(self._inputs)}\n{flipped}"
        return hashlib.sha256(self._graph + about.encode()).hexdigest()

    @cached_property
    def _graph(self) -> bytes:
        graph: bytes = features_graph(self.towers.images).SerializeToString(deterministic=True)
        return graph

    @cached_property
    def _session(self) -> Session:
        return _session_of(self._graph, self._device, self._threads)


class _TextTower:
    """One text tower; its graph and tokenizer are created on first use."""

    def __init__(self, tower: TextTower, cache: Path, device: Device, threads: int) -> None:
        self.name = tower.spec.name
        self._tower, self._cache, self._device, self._threads = tower, cache, device, threads

    def encode(self, label: str, texts: Sequence[str]) -> Floats:
        cache = FeatureCache(self._cache, "texts", self._fingerprint)
        keys = [content_key(text.encode()) for text in texts]
        by_key = dict(zip(keys, texts, strict=True))
        # Sorted by length, since a batch is padded to its longest text.
        missing = sorted(cache.missing(keys), key=lambda key: (len(by_key[key]), key))
        if missing:
            with Progress(f"features of {label}", len(missing), "texts") as progress:
                for start in range(0, len(missing), _TEXTS_PER_BATCH):
                    batch = missing[start : start + _TEXTS_PER_BATCH]
                    tokens = self._tokenizer([by_key[key] for key in batch])
                    inputs = {"input_ids": tokens.ids, "attention_mask": tokens.mask}
                    cache.add(batch, self._session.run({name: inputs[name] for name in self._session.inputs}))
                    progress.advance(len(batch))
                cache.flush()
        return normalise(cache.read(keys)["text"])

    @cached_property
    def _fingerprint(self) -> str:
        about = f"{hashlib.sha256(self._tower.tokenizer).hexdigest()}\n{_json(self._tower.input)}"
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
        return _session_of(self._graph, self._device, self._threads)


def _session_of(graph: bytes, device: Device, threads: int) -> Session:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.onnx"
        path.write_bytes(graph)
        return open_session(path, device, threads)


def _json(spec: ImageInput | TextInput) -> str:
    return json.dumps(asdict(spec), separators=(",", ":"))
