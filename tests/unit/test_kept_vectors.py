"""Vectors are read once, and are then what was read."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.store.kept import MAX_BYTES, KeptVectors
from sceneseek.vectors import Floats


class Engine:
    """Vectors by id, and what was read of them."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, ids: list[str]) -> Mapping[str, Floats]:
        self.read += ids
        return {identity: vector(identity) for identity in ids}


def vector(identity: str) -> Floats:
    return np.array([int(identity), -int(identity), 0.5], dtype=np.float32)


@given(st.lists(st.lists(st.integers(0, 30).map(str), unique=True), max_size=8))
def test_whatever_is_asked_for_comes_in_its_order_and_is_read_once(asked: list[list[str]]) -> None:
    kept, engine = KeptVectors(31, 3), Engine()
    for ids in asked:
        rows = kept.rows(ids, engine)
        assert rows.shape == (len(ids), 3)
        assert all((row == vector(identity)).all() for row, identity in zip(rows, ids, strict=True))
    assert len(engine.read) == len(set(engine.read))


def test_many_threads_get_the_same() -> None:
    kept, engine = KeptVectors(500, 3), Engine()

    def ask(start: int) -> bool:
        ids = [str((start + step) % 500) for step in range(100)]
        return all((row == vector(i)).all() for row, i in zip(kept.rows(ids, engine), ids, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(0, 5_000, 7)))


def test_too_many_vectors_are_not_kept() -> None:
    assert KeptVectors.fitting(MAX_BYTES // (4 * 256), 256) is not None
    assert KeptVectors.fitting(MAX_BYTES // (4 * 256) + 1, 256) is None
