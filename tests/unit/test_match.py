"""Results match if their score reaches the bundle's threshold; without a threshold, matching is unknown."""

from __future__ import annotations

import numpy as np
import pytest

from sceneseek.bundle import MatchThreshold
from sceneseek.reranker import marks


def test_result_matches_at_or_above_threshold() -> None:
    threshold = MatchThreshold(threshold=0.7, source="captions")
    scores = np.array([0.9, 0.7, 0.6999, 0.0], np.float32)
    np.testing.assert_array_equal(marks(threshold, scores), [True, True, False, False])


def test_empty_scores_return_empty_array() -> None:
    matches = marks(MatchThreshold(threshold=0.7, source="captions"), np.zeros(0, np.float32))
    assert matches is not None
    assert matches.shape == (0,)


def test_marks_are_none_without_threshold() -> None:
    assert marks(None, np.array([0.9], np.float32)) is None


@pytest.mark.parametrize("outside", [-0.1, 1.1, float("nan")])
def test_threshold_outside_score_range_is_rejected(outside: float) -> None:
    with pytest.raises(ValueError, match="not in"):
        MatchThreshold(threshold=outside, source="captions")
