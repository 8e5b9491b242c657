"""Errors can be passed between processes."""

from __future__ import annotations

import pickle

import pytest

from sceneseek.errors import ImageError, IndexUnavailable, InvalidRequest, NothingIndexed, Overloaded, SceneseekError
from sceneseek.store.qdrant.connection import RequestFailed
from sceneseek.store.qdrant.failure import Failure


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("what", "hint"),
        ImageError("truncated", "what", "hint"),
        Overloaded("what", "hint", retry_after=7),
        NothingIndexed("file:index", "hint", "sceneseek index DIR", "sceneseek index DIR"),
        RequestFailed(Failure("key", "401"), IndexUnavailable("what", "hint")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_survives_pickling(error: SceneseekError) -> None:
    other = pickle.loads(pickle.dumps(error))  # noqa: S301 - data pickled right here
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)
