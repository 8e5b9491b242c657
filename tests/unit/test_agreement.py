"""Agreement with ratings follows its definitions, and the published protocol."""

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
# Percentages, so that a map of them keeps apart what differs.
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


def drawn(pairs: int, images: int, seed: int = 0) -> Rated:
    """Ratings by three raters, and predictions that know something of them."""
    rng = np.random.default_rng(seed)
    truth = rng.random(pairs)
    scores = np.clip(np.rint(3 * (truth[:, None] + 0.2 * rng.normal(size=(pairs, 3)))), 0, 3) / 3
    predicted = np.clip(truth + 0.2 * rng.normal(size=pairs), 0, 1)
    return rated(predicted, scores.mean(axis=1), scores, rng.random(pairs) < 0.1, rng.integers(0, images, pairs))


def width(figure: Any) -> float:
    return float(figure.high - figure.low)


def test_figures_of_four_pairs_by_hand() -> None:
    found = values(rated([0.1, 0.3, 0.3, 0.9], [0, 1, 0.5, 1]))
    assert found["rmse"] == pytest.approx(math.sqrt((0.1**2 + 0.7**2 + 0.2**2 + 0.1**2) / 4))
    assert found["mae"] == pytest.approx((0.1 + 0.7 + 0.2 + 0.1) / 4)
    # Deviations (-3, -1, -1, 5) / 10 * 1 and (-5, 3, -1, 3) / 8.
    assert found["pearson"] == pytest.approx((15 - 3 + 1 + 15) / math.sqrt(36 * 44))
    # Ranks 1, 2.5, 2.5, 4 and 1, 3.5, 2, 3.5.
    assert found["spearman"] == pytest.approx((2.25 + 0 + 0 + 1.5) / math.sqrt(4.5 * 4.5))
    # Of six couples four are concordant, one is tied in the first and one in the second.
    assert found["kendall_tau_b"] == pytest.approx(4 / 5)
    assert found["kendall_tau_c"] == pytest.approx(2 * 4 * 3 / (4**2 * 2))


def test_kendalls_tau_leaves_out_own_captions_and_counts_every_rater() -> None:
    pairs = drawn(200, 50)
    found = measure_agreement(pairs, FEW)
    others = ~pairs.own
    assert 0 < found.published == others.sum() < found.pairs == 200
    for suffix, chosen in (("", others), ("_all", np.ones(200, np.bool_))):
        flat = np.repeat(pairs.predicted[chosen], 3), pairs.scores[chosen].ravel()
        for variant in ("b", "c"):
            expected = stats.kendalltau(*flat, variant=variant).statistic
            assert found.figures[f"kendall_tau_{variant}{suffix}"].value == pytest.approx(expected, abs=1e-12)
    assert found.figures["kendall_tau_b"].value != found.figures["kendall_tau_b_all"].value


def test_a_rater_who_said_nothing_is_no_data_point() -> None:
    nothing = math.nan
    pairs = rated([0.1, 0.5, 0.9], [0, 0.5, 1], [[0, nothing], [nothing, 1], [1, 1 / 3]])
    expected = stats.kendalltau([0.1, 0.5, 0.9, 0.9], [0, 1, 1, 1 / 3]).statistic
    assert values(pairs)["kendall_tau_b"] == pytest.approx(expected)


@pytest.mark.parametrize("raters", [0, 2])
def test_votes_have_their_share_as_the_one_data_point_and_keep_every_pair(raters: int) -> None:
    predicted, target = [0.2, 0.1, 0.9, 0.4], [0, 0.25, 1, 0.25]
    found = measure_agreement(
        rated(predicted, target, np.full((4, raters), np.nan), own=[False, False, True, False]), FEW
    )
    assert found.published == found.pairs == 4
    for name in ("kendall_tau_b", "kendall_tau_b_all"):
        assert found.figures[name].value == pytest.approx(stats.kendalltau(predicted, target).statistic)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), min_size=1, max_size=80))
def test_tau_of_a_table_is_scipys_tau_of_its_points(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points).T
    table = np.bincount(x * 6 + y, minlength=9 * 6).reshape(9, 6)
    found = tau_from_table(table)
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(found).all()
    else:
        expected = [stats.kendalltau(x, y, variant=variant).statistic for variant in ("b", "c")]
        np.testing.assert_allclose(found, expected, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(PAIRS)
def test_the_target_agrees_with_itself_entirely(pairs: list[tuple[float, float]]) -> None:
    target = [y for _, y in pairs]
    found = values(rated(target, target))
    assert found["rmse"] == found["mae"] == found["ece"] == 0
    varied = len(set(target)) > 1
    for name in ("pearson", "spearman", "kendall_tau_b", "kendall_tau_b_all"):
        assert found[name] == (pytest.approx(1) if varied else None)


@settings(deadline=None, max_examples=50)
@given(PAIRS)
def test_rank_correlations_see_the_order_alone(pairs: list[tuple[float, float]]) -> None:
    predicted, target = np.array(pairs).T
    straight, bent = values(rated(predicted, target)), values(rated(predicted**3 / 2 + 0.1, target))
    falling = values(rated(1 - predicted, target))
    for name in ("spearman", *KENDALL):
        value = straight[name]
        if value is None:
            assert bent[name] is falling[name] is None
        else:
            assert bent[name] == pytest.approx(value, abs=1e-9)
            assert falling[name] == pytest.approx(-value, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_changes_no_figure(pairs: list[tuple[float, float]], random: Any) -> None:
    mixed = random.sample(pairs, len(pairs))
    one, other = (values(rated(*np.array(some).T)) for some in (pairs, mixed))
    assert one == {name: value if value is None else pytest.approx(value, abs=1e-9) for name, value in other.items()}


def test_predictions_that_are_right_on_average_are_calibrated_however_single_pairs_scatter() -> None:
    predicted = np.repeat([0.2, 0.7], 10)
    target = predicted + np.tile([0.2, -0.2], 10)
    assert calibration_error(reliability(predicted, target)) == pytest.approx(0, abs=1e-12)
    assert calibration_error(reliability(predicted, target - 0.15)) == pytest.approx(0.15)


def test_bins_are_of_equal_count_and_weighted_by_it() -> None:
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


def test_a_constant_prediction_correlates_with_nothing_and_json_says_null() -> None:
    document = measure_agreement(rated([0.3] * 6, [0, 1 / 3, 2 / 3, 1, 1, 0]), FEW).to_json()
    for name in ("pearson", "spearman", *KENDALL):
        assert document[name] == {"value": None, "ci95": None}
    assert document["ece"]["value"] == pytest.approx(0.2)
    assert document["reliability"] == [{"mean_predicted": pytest.approx(0.3), "mean_target": 0.5, "count": 6}]
    json.dumps(document, allow_nan=False)


def test_the_documents_keys_are_stable() -> None:
    document = measure_agreement(drawn(50, 10), FEW).to_json()
    assert set(document) == {
        "rmse", "mae", "pearson", "spearman", "ece",
        "kendall_tau_b", "kendall_tau_c", "kendall_tau_b_all", "kendall_tau_c_all",
        "n_pairs", "n_pairs_published", "n_images", "reliability",
    }  # fmt: skip
    assert set(document["rmse"]) == {"value", "ci95"}


def test_intervals_hold_their_figures_and_narrow_with_more_images() -> None:
    few, many = (measure_agreement(drawn(4 * images, images), Bootstrap(200)).figures for images in (40, 400))
    for name in set(FIGURES) - {"ece"}:
        for figure in (few[name], many[name]):
            assert figure.low is not None
            assert figure.high is not None
            assert figure.value is not None
            assert figure.low < figure.value < figure.high
        assert width(many[name]) < 0.6 * width(few[name])


def test_images_that_are_alike_leave_no_doubt() -> None:
    # Whatever is drawn is the same, so what the replicates compute must be what the figure itself is.
    one = drawn(40, 1)
    alike = rated(
        np.tile(one.predicted, 5),
        np.tile(one.target, 5),
        np.tile(one.scores, (5, 1)),
        np.tile(one.own, 5),
        image=np.repeat(np.arange(5), 40),
    )
    for name, figure in measure_agreement(alike, FEW).figures.items():
        assert [figure.low, figure.high] == pytest.approx([figure.value] * 2, abs=1e-12), name


def test_arrays_that_do_not_fit_are_refused() -> None:
    for lengths in ((3, 4), (0, 0)):
        with pytest.raises(ValueError, match="lengths"):
            rated(np.zeros(lengths[0]), np.zeros(lengths[1]))
    with pytest.raises(ValueError, match="finite"):
        rated([math.nan, 0], [0, 1])


def test_without_scipy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(DataError, match=r"not installed \(.*scipy.*extra `evaluate`"):
        measure_agreement(drawn(10, 3))


def test_a_resample_takes_no_scores_from_pairs_it_did_not_draw() -> None:
    # The second image contradicts the first; a replicate that draws one of them alone must not see the other.
    up, down = np.linspace(0, 1, 5), np.linspace(1, 0, 5)
    predicted: Doubles = np.tile(up, 2)
    figure = measure_agreement(
        rated(predicted, np.concatenate([up, down]), image=np.repeat([0, 1], 5)), Bootstrap(200)
    ).figures["kendall_tau_b"]
    assert [figure.value, figure.low, figure.high] == pytest.approx([0, -1, 1])
