"""Features are computed once per content and cached; those of a damaged shard are computed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sceneseek.errors import DataError
from sceneseek_training import feature_cache
from sceneseek_training.feature_cache import FeatureCache, content_key

KEYS = [content_key(bytes([i])) for i in range(5)]
ROWS = {"features": np.arange(10, dtype=np.float32).reshape(5, 2), "logits": np.ones((5, 3), np.float32)}


def filled_cache(folder: Path, fingerprint: str = "ab") -> FeatureCache:
    cache = FeatureCache(folder, "images", fingerprint)
    cache.add(KEYS, ROWS)
    cache.flush()
    return cache


def test_cached_features_are_found_by_the_next_process(tmp_path: Path) -> None:
    filled_cache(tmp_path)
    again = FeatureCache(tmp_path, "images", "ab")
    assert again.missing(KEYS) == []
    order = [3, 0, 3, 4]
    np.testing.assert_array_equal(again.read([KEYS[i] for i in order])["features"], ROWS["features"][order])


def test_rows_are_read_from_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "SHARD_ROWS", 2)
    cache = FeatureCache(tmp_path, "images", "ab")
    for i in range(5):
        cache.add(KEYS[i : i + 1], {name: rows[i : i + 1] for name, rows in ROWS.items()})
    cache.flush()
    assert len(list(tmp_path.rglob("*.npz"))) == 3
    again = FeatureCache(tmp_path, "images", "ab").read(KEYS)
    for name, rows in ROWS.items():
        np.testing.assert_array_equal(again[name], rows)


def test_missing_keys_are_returned_once(tmp_path: Path) -> None:
    cache = filled_cache(tmp_path)
    new = content_key(b"new")
    assert cache.missing([KEYS[0], new, KEYS[1], new]) == [new]


def test_rows_of_another_fingerprint_are_not_reused(tmp_path: Path) -> None:
    filled_cache(tmp_path)
    assert FeatureCache(tmp_path, "images", "cd").missing(KEYS) == KEYS


def test_damaged_shard_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled_cache(tmp_path)
    (shard,) = tmp_path.rglob("*.npz")
    shard.write_bytes(shard.read_bytes()[:100])
    again = FeatureCache(tmp_path, "images", "ab")
    assert again.missing(KEYS) == KEYS
    assert "damaged" in caplog.text
    again.add(KEYS, ROWS)
    again.flush()
    np.testing.assert_array_equal(again.read(KEYS)["logits"], ROWS["logits"])


def test_deleted_shard_raises_data_error(tmp_path: Path) -> None:
    cache = filled_cache(tmp_path)
    (shard,) = tmp_path.rglob("*.npz")
    shard.unlink()
    with pytest.raises(DataError, match="delete it and run again"):
        cache.read(KEYS)


def test_unwritable_cache_raises_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="choose another --cache"):
        filled_cache(tmp_path / "file")
