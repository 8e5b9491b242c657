"""Agreement with ratings: definitions of its figures, and the published protocol."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sceneseek.errors import DataError
from sceneseek_evaluation.agreement import (
    FIGURES,
    KENDALL,
    Bin,
    Rated,
    calibration_error,
    measure_agreement,
    reliability,
    tau_from_table,
)
from sceneseek_evaluation.figures import Bootstrap, Doubles

FEW = Bootstrap(replicates=20)
# Whole percentages, so that different values stay different under a monotonic function.
PERCENT = st.integers(0, 100).map(lambda percent: percent / 100)
PAIRS = st.lists(st.tuples(PERCENT, st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0])), min_size=2, max_size=60)


def rated(predicted: Any, target: Any, scores: Any = None, own: Any = None, image: Any = None) -> Rated:
    count = len(target)
    return Rated(
        predicted=np.asarray(predicted, np.float64),
        target=np.asarray(target, np.float64),
        scores=np.zeros((count, 0)) if scores is None else np.asarray(scores, np.float64),
        own=np.zeros(count, np.bool_) if own is None else np.asarray(own, np.bool_),
        image=np.arange(count) if image is None else np.asarray(image, np.int64),
    )


def values(pairs: Rated) -> dict[str, float | None]:
    return {name: figure.value for name, figure in measure_agreement(pairs, FEW).figures.items()}


def random_ratings(pairs: int, images: int, seed: int = 0) -> Rated:
    """Ratings by three raters, and predictions correlated with them."""
    rng = np.random.default_rng(seed)
    truth = rng.random(pairs)
    scores = np.clip(np.rint(3 * (truth[:, None] + 0.2 * rng.normal(size=(pairs, 3)))), 0, 3) / 3
    predicted = np.clip(truth + 0.2 * rng.normal(size=pairs), 0, 1)
    return rated(predicted, scores.mean(axis=1), scores, rng.random(pairs) < 0.1, rng.integers(0, images, pairs))


def width(figure: Any) -> float:
    return float(figure.high - figure.low)


def test_figures_match_values_computed_by_hand() -> None:
    result = values(rated([0.1, 0.3, 0.3, 0.9], [0, 1, 0.5, 1]))
    assert result["rmse"] == pytest.approx(math.sqrt((0.1**2 + 0.7**2 + 0.2**2 + 0.1**2) / 4))
    assert result["mae"] == pytest.approx((0.1 + 0.7 + 0.2 + 0.1) / 4)
    # Deviations (-3, -1, -1, 5) / 10 * 1 and (-5, 3, -1, 3) / 8.
    assert result["pearson"] == pytest.approx((15 - 3 + 1 + 15) / math.sqrt(36 * 44))
    # Ranks 1, 2.5, 2.5, 4 and 1, 3.5, 2, 3.5.
    assert result["spearman"] == pytest.approx((2.25 + 0 + 0 + 1.5) / math.sqrt(4.5 * 4.5))
    # Of six pairs, four are concordant, one is tied in the predictions and one in the targets.
    assert result["kendall_tau_b"] == pytest.approx(4 / 5)
    assert result["kendall_tau_c"] == pytest.approx(2 * 4 * 3 / (4**2 * 2))


def test_kendall_tau_excludes_own_captions_and_includes_every_rater() -> None:
    pairs = random_ratings(200, 50)
    result = measure_agreement(pairs, FEW)
    others = ~pairs.own
    assert 0 < result.published == others.sum() < result.pairs == 200
    for suffix, chosen in (("", others), ("_all", np.ones(200, np.bool_))):
        flat = np.repeat(pairs.predicted[chosen], 3), pairs.scores[chosen].ravel()
        for variant in ("b", "c"):
            expected = stats.kendalltau(*flat, variant=variant).statistic
            assert result.figures[f"kendall_tau_{variant}{suffix}"].value == pytest.approx(expected, abs=1e-12)
    assert result.figures["kendall_tau_b"].value != result.figures["kendall_tau_b_all"].value


def test_kendall_tau_ignores_missing_ratings() -> None:
    nothing = math.nan
    pairs = rated([0.1, 0.5, 0.9], [0, 0.5, 1], [[0, nothing], [nothing, 1], [1, 1 / 3]])
    expected = stats.kendalltau([0.1, 0.5, 0.9, 0.9], [0, 1, 1, 1 / 3]).statistic
    assert values(pairs)["kendall_tau_b"] == pytest.approx(expected)


@pytest.mark.parametrize("raters", [0, 2])
def test_kendall_tau_of_votes_uses_their_share_for_every_pair(raters: int) -> None:
    predicted, target = [0.2, 0.1, 0.9, 0.4], [0, 0.25, 1, 0.25]
    result = measure_agreement(
        rated(predicted, target, np.full((4, raters), np.nan), own=[False, False, True, False]), FEW
    )
    assert result.published == result.pairs == 4
    for name in ("kendall_tau_b", "kendall_tau_b_all"):
        assert result.figures[name].value == pytest.approx(stats.kendalltau(predicted, target).statistic)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), min_size=1, max_size=80))
def test_tau_from_table_equals_scipy_kendalltau(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points).T
    table = np.bincount(x * 6 + y, minlength=9 * 6).reshape(9, 6)
    result = tau_from_table(table)
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(result).all()
    else:
        expected = [stats.kendalltau(x, y, variant=variant).statistic for variant in ("b", "c")]
        np.testing.assert_allclose(result, expected, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(PAIRS)
def test_perfect_predictions_have_perfect_agreement(pairs: list[tuple[float, float]]) -> None:
    target = [y for _, y in pairs]
    result = values(rated(target, target))
    assert result["rmse"] == result["mae"] == result["ece"] == 0
    varied = len(set(target)) > 1
    for name in ("pearson", "spearman", "kendall_tau_b", "kendall_tau_b_all"):
        assert result[name] == (pytest.approx(1) if varied else None)


@settings(deadline=None, max_examples=50)
@given(PAIRS)
def test_rank_correlations_depend_on_order_only(pairs: list[tuple[float, float]]) -> None:
    predicted, target = np.array(pairs).T
    linear, monotonic = values(rated(predicted, target)), values(rated(predicted**3 / 2 + 0.1, target))
    falling = values(rated(1 - predicted, target))
    for name in ("spearman", *KENDALL):
        value = linear[name]
        if value is None:
            assert monotonic[name] is falling[name] is None
        else:
            assert monotonic[name] == pytest.approx(value, abs=1e-9)
            assert falling[name] == pytest.approx(-value, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(PAIRS, st.randoms(use_true_random=False))
def test_figures_do_not_depend_on_the_order_of_pairs(pairs: list[tuple[float, float]], random: Any) -> None:
    shuffled = random.sample(pairs, len(pairs))
    one, other = (values(rated(*np.array(some).T)) for some in (pairs, shuffled))
    assert one == {name: value if value is None else pytest.approx(value, abs=1e-9) for name, value in other.items()}


def test_calibration_error_ignores_scatter_around_the_mean() -> None:
    predicted = np.repeat([0.2, 0.7], 10)
    target = predicted + np.tile([0.2, -0.2], 10)
    assert calibration_error(reliability(predicted, target)) == pytest.approx(0, abs=1e-12)
    assert calibration_error(reliability(predicted, target - 0.15)) == pytest.approx(0.15)


def test_reliability_bins_have_equal_counts_and_weight_the_calibration_error() -> None:
    predicted = np.arange(20)[::-1] / 20
    bins = reliability(predicted, predicted**2)
    assert [b.count for b in bins] == [2] * 10
    assert (bins[0].mean_predicted, bins[0].mean_target) == pytest.approx((0.025, 0.00125))
    assert [b.mean_predicted for b in bins] == sorted(b.mean_predicted for b in bins)
    assert calibration_error([Bin(0.1, 0.2, 3), Bin(0.9, 0.4, 1)]) == pytest.approx((3 * 0.1 + 1 * 0.5) / 4)


def test_equal_predictions_share_a_bin() -> None:
    bins = reliability(np.array([0.5] * 15 + [0.6, 0.7, 0.8, 0.9, 1.0]), np.linspace(0, 1, 20))
    assert [b.count for b in bins] == [15, 1, 2, 2]
    assert bins[0].mean_predicted == 0.5


def test_correlations_of_constant_predictions_are_null() -> None:
    document = measure_agreement(rated([0.3] * 6, [0, 1 / 3, 2 / 3, 1, 1, 0]), FEW).to_json()
    for name in ("pearson", "spearman", *KENDALL):
        assert document[name] == {"value": None, "ci95": None}
    assert document["ece"]["value"] == pytest.approx(0.2)
    assert document["reliability"] == [{"mean_predicted": pytest.approx(0.3), "mean_target": 0.5, "count": 6}]
    json.dumps(document, allow_nan=False)


def test_document_keys_are_stable() -> None:
    document = measure_agreement(random_ratings(50, 10), FEW).to_json()
    assert set(document) == {
        "rmse", "mae", "pearson", "spearman", "ece",
        "kendall_tau_b", "kendall_tau_c", "kendall_tau_b_all", "kendall_tau_c_all",
        "n_pairs", "n_pairs_published", "n_images", "reliability",
    }  # fmt: skip
    assert set(document["rmse"]) == {"value", "ci95"}


def test_intervals_contain_their_figures_and_narrow_with_more_images() -> None:
    few, many = (measure_agreement(random_ratings(4 * images, images), Bootstrap(200)).figures for images in (40, 400))
    for name in set(FIGURES) - {"ece"}:
        for figure in (few[name], many[name]):
            assert figure.low is not None
            assert figure.high is not None
            assert figure.value is not None
            assert figure.low < figure.value < figure.high
        assert width(many[name]) < 0.6 * width(few[name])


def test_identical_images_yield_zero_width_intervals() -> None:
    # All resamples are equal, so every replicate must equal the figure.
    one = random_ratings(40, 1)
    identical = rated(
        np.tile(one.predicted, 5),
        np.tile(one.target, 5),
        np.tile(one.scores, (5, 1)),
        np.tile(one.own, 5),
        image=np.repeat(np.arange(5), 40),
    )
    for name, figure in measure_agreement(identical, FEW).figures.items():
        assert [figure.low, figure.high] == pytest.approx([figure.value] * 2, abs=1e-12), name


def test_rated_rejects_mismatched_and_non_finite_arrays() -> None:
    for lengths in ((3, 4), (0, 0)):
        with pytest.raises(ValueError, match="lengths"):
            rated(np.zeros(lengths[0]), np.zeros(lengths[1]))
    with pytest.raises(ValueError, match="finite"):
        rated([math.nan, 0], [0, 1])


def test_missing_scipy_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(DataError, match=r"not installed \(.*scipy.*extra `evaluate`"):
        measure_agreement(random_ratings(10, 3))


def test_resample_uses_only_scores_of_sampled_images() -> None:
    # The second image contradicts the first; a replicate that samples only one must not use the other.
    up, down = np.linspace(0, 1, 5), np.linspace(1, 0, 5)
    predicted: Doubles = np.tile(up, 2)
    figure = measure_agreement(
        rated(predicted, np.concatenate([up, down]), image=np.repeat([0, 1], 5)), Bootstrap(200)
    ).figures["kendall_tau_b"]
    assert [figure.value, figure.low, figure.high] == pytest.approx([0, -1, 1])
