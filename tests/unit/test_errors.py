"""Errors go from a worker's process to its master's as they are."""

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
def test_an_error_is_the_same_after_it_went_to_another_process(error: SceneseekError) -> None:
    other = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)
