"""Calibration: the curve is monotonic, recovers known parameters, and is validated on held-out pairs."""

from __future__ import annotations

import numpy as np
import pytest

from sceneseek.errors import DataError
from sceneseek_evaluation.retrieval import exact_ranks
from sceneseek_training import calibration
from sceneseek_training.calibration import Pairs, cross_validated, figures, fit, from_captions, from_ratings


def pairs_on_known_curve(count: int = 2000, slope: float = 12.0, intercept: float = -3.0) -> Pairs:
    """Pairs whose target is a known logistic curve of their similarity."""
    rng = np.random.default_rng(0)
    similarity = rng.uniform(-0.2, 0.8, count).astype(np.float32)
    target = 1 / (1 + np.exp(-(slope * similarity + intercept)))
    return Pairs(rng.integers(0, 50, count), 50 + rng.integers(0, 50, count), similarity, target.astype(np.float32))


def test_fit_recovers_known_curve() -> None:
    pairs = pairs_on_known_curve()
    assert fit(pairs.similarity, pairs.target) == pytest.approx((12.0, -3.0), abs=0.01)


def test_fit_is_finite_for_separable_points() -> None:
    slope, intercept = fit(np.array([0, 0.1, 0.8, 0.9], np.float32), np.array([0, 0, 1, 1], np.float32))
    assert 0 < slope < np.inf
    assert np.isfinite(intercept)


def test_calibration_is_monotonic_and_reports_validation() -> None:
    found = from_ratings(pairs_on_known_curve(), seed=0)
    scores = found.score(np.linspace(-1, 1, 100).astype(np.float32))
    assert (np.diff(scores) >= 0).all()
    assert found.source == "human ratings"
    assert found.figures["rmse"] < 0.01
    assert found.figures["spearman"] > 0.99
    assert found.figures["pairs"] == 2000
    assert "no pair was predicted by a curve that had seen" in found.figures["validation"]


def test_ratings_decreasing_with_similarity_are_rejected() -> None:
    pairs = pairs_on_known_curve(slope=-12.0)
    with pytest.raises(DataError, match="do not match better"):
        from_ratings(pairs, seed=0)


def test_fewer_groups_than_folds_are_rejected() -> None:
    pairs = pairs_on_known_curve(40)
    with pytest.raises(DataError, match="3 images, fewer than the 5 folds"):
        from_ratings(Pairs(pairs.image % 3, pairs.text, pairs.similarity, pairs.target), seed=0)


def test_cross_validation_holds_out_images_and_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each pair's similarity is its index, so the arguments of a fit identify its training pairs.
    rng = np.random.default_rng(1)
    image, text = rng.integers(0, 20, 300), 20 + rng.integers(0, 20, 300)
    pairs = Pairs(image, text, np.arange(300, dtype=np.float32), rng.random(300).astype(np.float32))
    seen: list[set[int]] = []

    def recording_fit(similarity: np.ndarray, _: np.ndarray) -> tuple[float, float]:
        seen.append(set(similarity.astype(int).tolist()))
        return 0.0, len(seen) / 10  # the intercept identifies the curve

    monkeypatch.setattr(calibration, "fit", recording_fit)
    curve = np.round(-10 * np.log(1 / cross_validated(pairs, seed=0) - 1)).astype(int)
    assert set(curve.tolist()) == set(range(1, 26))
    for i in range(300):
        training_pairs = list(seen[curve[i] - 1])
        assert image[i] not in image[training_pairs]
        assert text[i] not in text[training_pairs]


def test_captions_can_calibrate_without_ratings() -> None:
    rng = np.random.default_rng(2)
    images = rng.normal(size=(40, 16)).astype(np.float32)
    texts = np.repeat(images, 5, axis=0) + rng.normal(size=(200, 16)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    calibrated = from_captions(images, texts, np.repeat(np.arange(40), 5), seed=0)
    assert calibrated.source == "captions"
    assert calibrated.figures["pairs"] == 400
    assert calibrated.slope > 0
    own, other = calibrated.score(np.array([0.8], np.float32)), calibrated.score(np.array([0.0], np.float32))
    assert own > 0.9
    assert other < 0.5


def test_single_image_is_rejected() -> None:
    one = np.ones((1, 4), np.float32)
    with pytest.raises(DataError, match="too few"):
        from_captions(one, one, np.array([0]), seed=0)


def test_metrics_match_textbook_definitions() -> None:
    metrics = figures(np.array([0.0, 0.5, 1.0, 0.5]), np.array([0.0, 0.5, 0.5, 1.0], np.float32))
    assert metrics["rmse"] == pytest.approx(np.sqrt(0.5 / 4), abs=1e-4)
    assert metrics["mae"] == pytest.approx(0.25)
    assert metrics["spearman"] == pytest.approx(0.5)  # ranks 1, 2.5, 4, 2.5 and 1, 2.5, 2.5, 4


def test_exact_rank_counts_ties_as_worse() -> None:
    images = np.eye(12, dtype=np.float32)
    owner = np.array([0, 3])
    assert set(exact_ranks(images, images[owner], owner)) == {1}
    identical = np.ones((12, 2), np.float32)
    assert set(exact_ranks(identical, identical[owner], owner)) == {len(identical)}
    texts = np.stack([images[0], images[3] + 2 * images[1]])
    assert (exact_ranks(images, texts, owner) == 1).mean() == 0.5
