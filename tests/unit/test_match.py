"""Which results match: those whose score reaches the bundle's threshold, and nobody knows without one."""

from __future__ import annotations

import numpy as np
import pytest

from sceneseek.bundle import MatchThreshold
from sceneseek.reranker import marks


def test_a_result_matches_from_the_threshold_on() -> None:
    threshold = MatchThreshold(threshold=0.7, source="captions")
    scores = np.array([0.9, 0.7, 0.6999, 0.0], np.float32)
    np.testing.assert_array_equal(marks(threshold, scores), [True, True, False, False])


def test_no_result_gives_no_mark() -> None:
    found = marks(MatchThreshold(threshold=0.7, source="captions"), np.zeros(0, np.float32))
    assert found is not None
    assert found.shape == (0,)


def test_without_a_threshold_nothing_is_said() -> None:
    assert marks(None, np.array([0.9], np.float32)) is None


@pytest.mark.parametrize("outside", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_score(outside: float) -> None:
    with pytest.raises(ValueError, match="not in"):
        MatchThreshold(threshold=outside, source="captions")
