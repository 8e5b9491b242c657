"""Content-addressed cache of feature vectors on disk.

    DIRECTORY/KIND-FINGERPRINT/NAME.npz     `keys` (n, 32) uint8, and for each output an array (n, width) float32

The fingerprint identifies the function (graph and preprocessing), a key its input (sha256 of the bytes). So a renamed
image or another split needs no new computation, and another tower never reads old vectors. Shards are written
atomically and never changed; several processes may share a cache.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sceneseek.errors import DataError
from sceneseek.files import write_atomic
from sceneseek.vectors import Floats

log = logging.getLogger(__name__)

SHARD_ROWS = 1024

_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def content_key(content: bytes) -> bytes:
    """Return the key of an input: its sha256, 32 bytes."""
    return hashlib.sha256(content).digest()


class FeatureCache:
    """The cached vectors of one function.

    Args:
        directory: the directory of all caches.
        kind: a readable name of the inputs, such as ``images``.
        fingerprint: fingerprint of the function, in hex.
    """

    def __init__(self, directory: Path, kind: str, fingerprint: str) -> None:
        self._home = directory / f"{kind}-{fingerprint[:16]}"
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._pending: list[tuple[bytes, dict[str, Floats]]] = []
        for shard in sorted(self._home.glob("*.npz")):
            try:
                with shard.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                    self._index(shard, [key.tobytes() for key in stored["keys"]])
            except _BROKEN as error:
                log.warning("ignoring the damaged cache file %s (%r)", shard, error)

    def missing(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the keys that are not on disk, in order, without duplicates."""
        return [key for key in dict.fromkeys(keys) if key not in self._places]

    def add(self, keys: Sequence[bytes], rows: Mapping[str, Floats]) -> None:
        """Add a batch: for each output one row per key. Written to disk when a shard is full, or by `flush`."""
        for i, key in enumerate(keys):
            self._pending.append((key, {name: row[i] for name, row in rows.items()}))
        if len(self._pending) >= SHARD_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write added rows to disk.

        Raises:
            DataError: the directory cannot be written.
        """
        if not self._pending:
            return
        keys = [key for key, _ in self._pending]
        arrays: dict[str, np.ndarray] = {
            name: np.stack([row[name] for _, row in self._pending]).astype(np.float32) for name in self._pending[0][1]
        }
        arrays["keys"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        shard = self._home / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:24]}.npz"
        try:
            write_atomic(shard, content.getvalue())
        except OSError as error:
            raise DataError(f"{self._home} cannot be written ({error.strerror})", "choose another --cache") from error
        self._index(shard, keys)
        self._pending.clear()

    def read(self, keys: Sequence[bytes]) -> dict[str, Floats]:
        """Return the rows of these keys, which must all be on disk: for each output an array (N, width).

        Raises:
            DataError: a shard was damaged or removed in the meantime.
        """
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for i, key in enumerate(keys):
            shard, row = self._places[key]
            wanted.setdefault(shard, []).append((i, row))
        result: dict[str, Floats] = {}
        for shard, places in wanted.items():
            to, at = np.array(places).T
            try:
                with shard.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                    for name in stored.files:
                        if name == "keys":
                            continue
                        rows = stored[name]
                        if name not in result:
                            result[name] = np.empty((len(keys), rows.shape[1]), np.float32)
                        result[name][to] = rows[at]
            except _BROKEN as error:
                raise DataError(f"the cache file {shard} is damaged ({error!r})", "delete it and run again") from error
        return result

    def _index(self, shard: Path, keys: Sequence[bytes]) -> None:
        self._places.update((key, (shard, row)) for row, key in enumerate(keys))
