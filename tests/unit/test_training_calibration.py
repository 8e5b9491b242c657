"""A score means something: the curve rises, recovers what was planted, and is judged on what it has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from sceneseek.errors import DataError
from sceneseek_evaluation.retrieval import exact_ranks
from sceneseek_training import calibration
from sceneseek_training.calibration import Pairs, cross_validated, figures, fit, from_captions, from_ratings


def planted(count: int = 2000, slope: float = 12.0, intercept: float = -3.0) -> Pairs:
    """Pairs whose target is a known curve of their similarity."""
    rng = np.random.default_rng(0)
    similarity = rng.uniform(-0.2, 0.8, count).astype(np.float32)
    target = 1 / (1 + np.exp(-(slope * similarity + intercept)))
    return Pairs(rng.integers(0, 50, count), 50 + rng.integers(0, 50, count), similarity, target.astype(np.float32))


def test_the_planted_curve_is_found() -> None:
    pairs = planted()
    assert fit(pairs.similarity, pairs.target) == pytest.approx((12.0, -3.0), abs=0.01)


def test_separable_points_give_a_finite_curve() -> None:
    slope, intercept = fit(np.array([0, 0.1, 0.8, 0.9], np.float32), np.array([0, 0, 1, 1], np.float32))
    assert 0 < slope < np.inf
    assert np.isfinite(intercept)


def test_a_calibration_rises_and_says_how_it_was_judged() -> None:
    found = from_ratings(planted(), seed=0)
    scores = found.score(np.linspace(-1, 1, 100).astype(np.float32))
    assert (np.diff(scores) >= 0).all()
    assert found.source == "human ratings"
    assert found.figures["rmse"] < 0.01
    assert found.figures["spearman"] > 0.99
    assert found.figures["pairs"] == 2000
    assert "no pair was predicted by a curve that had seen" in found.figures["validation"]


def test_ratings_that_fall_with_similarity_are_refused() -> None:
    pairs = planted(slope=-12.0)
    with pytest.raises(DataError, match="do not match better"):
        from_ratings(pairs, seed=0)


def test_fewer_groups_than_folds_are_refused() -> None:
    pairs = planted(40)
    with pytest.raises(DataError, match="3 images, fewer than the 5 folds"):
        from_ratings(Pairs(pairs.image % 3, pairs.text, pairs.similarity, pairs.target), seed=0)


def test_no_curve_sees_the_image_or_the_text_that_it_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each pair's similarity is its own number, so that what a fit was given tells which pairs those were.
    rng = np.random.default_rng(1)
    image, text = rng.integers(0, 20, 300), 20 + rng.integers(0, 20, 300)
    pairs = Pairs(image, text, np.arange(300, dtype=np.float32), rng.random(300).astype(np.float32))
    seen: list[set[int]] = []

    def remembering(similarity: np.ndarray, _: np.ndarray) -> tuple[float, float]:
        seen.append(set(similarity.astype(int).tolist()))
        return 0.0, len(seen) / 10  # the intercept names the curve

    monkeypatch.setattr(calibration, "fit", remembering)
    curve = np.round(-10 * np.log(1 / cross_validated(pairs, seed=0) - 1)).astype(int)
    assert set(curve.tolist()) == set(range(1, 26))
    for i in range(300):
        learned_from = list(seen[curve[i] - 1])
        assert image[i] not in image[learned_from]
        assert text[i] not in text[learned_from]


def test_captions_calibrate_where_there_are_no_ratings() -> None:
    rng = np.random.default_rng(2)
    images = rng.normal(size=(40, 16)).astype(np.float32)
    texts = np.repeat(images, 5, axis=0) + rng.normal(size=(200, 16)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    found = from_captions(images, texts, np.repeat(np.arange(40), 5), seed=0)
    assert found.source == "captions"
    assert found.figures["pairs"] == 400
    assert found.slope > 0
    own, other = found.score(np.array([0.8], np.float32)), found.score(np.array([0.0], np.float32))
    assert own > 0.9
    assert other < 0.5


def test_one_image_is_too_few_to_calibrate_on() -> None:
    one = np.ones((1, 4), np.float32)
    with pytest.raises(DataError, match="too few"):
        from_captions(one, one, np.array([0]), seed=0)


def test_the_figures_are_those_of_the_textbook() -> None:
    found = figures(np.array([0.0, 0.5, 1.0, 0.5]), np.array([0.0, 0.5, 0.5, 1.0], np.float32))
    assert found["rmse"] == pytest.approx(np.sqrt(0.5 / 4), abs=1e-4)
    assert found["mae"] == pytest.approx(0.25)
    assert found["spearman"] == pytest.approx(0.5)  # ranks 1, 2.5, 4, 2.5 and 1, 2.5, 2.5, 4


def test_recall_counts_a_tie_against_the_caption() -> None:
    images = np.eye(12, dtype=np.float32)
    owner = np.array([0, 3])
    assert set(exact_ranks(images, images[owner], owner)) == {1}
    alike = np.ones((12, 2), np.float32)
    assert set(exact_ranks(alike, alike[owner], owner)) == {len(alike)}
    texts = np.stack([images[0], images[3] + 2 * images[1]])
    assert (exact_ranks(images, texts, owner) == 1).mean() == 0.5
