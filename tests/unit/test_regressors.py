"""Regressors: each fitted head scores like the trained model, and better than chance."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from catboost import CatBoostRegressor
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sceneseek.errors import InvalidRequest
from sceneseek.vectors import Floats
from sceneseek_export.curves import Calibration, IsotonicCurve
from sceneseek_export.heads import ConstantHead, CosineHead, Head, TreesHead
from sceneseek_training.head_recipes import OURS, PROTOTYPE, RECIPES, find_recipe
from sceneseek_training.rated import RatedSpace
from sceneseek_training.regressors import classical, fit_head, neural
from sceneseek_training.regressors.classical import PENALTIES
from sceneseek_training.regressors.neural import CorrectionOptions, NetworkOptions, fit_correction, fit_network
from sceneseek_training.training_split import Columns, TrainingSplit, joined, read_inputs
from tests.rated import drawn_space, every_pair, no_pairs, scores
from tests.weights import TOWERS, drawn_alignment, numbers, with_space, with_two_texts

# Fast training for tests that need no good head.
SHORT = CorrectionOptions(hidden=8, networks=2, steps=30)


@pytest.fixture(scope="module")
def space() -> RatedSpace:
    """A hundred expert pairs and sixty crowd pairs; tests must not change it."""
    return drawn_space()


@pytest.fixture(scope="module")
def large() -> RatedSpace:
    """Half of all pairs of 40 images and 30 captions, and some crowd pairs; tests must not change it."""
    return drawn_space(40, 30, 600, 200)


@pytest.fixture(scope="module")
def fitted(space: RatedSpace) -> Callable[[str], Head]:
    """Fit a recipe's head with seed 0, once per recipe."""
    return functools.cache(lambda name: fit_head(RECIPES[name], TrainingSplit.whole(space, 0)))


def with_plain_alignment() -> RatedSpace:
    return drawn_space(alignment=with_space(drawn_alignment(), hubness=None, typical=None))


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_fits_a_reproducible_head_with_scores_from_0_to_1(
    name: str, space: RatedSpace, fitted: Callable[[str], Head]
) -> None:
    recipe, split = RECIPES[name], TrainingSplit.whole(space, 0)
    head = fitted(name)
    result = scores(head, space)
    assert result.shape == (16 * 14,)
    assert result.dtype == np.float32
    assert ((result >= 0) & (result <= 1)).all()
    read = {"image": tuple(TOWERS), "text": ("words",)}
    assert head.towers == tuple(tower for name in ("image", "text") if name in recipe.inputs for tower in read[name])
    assert head.alignment == ("" if isinstance(head, ConstantHead) else space.alignment.fingerprint)
    np.testing.assert_array_equal(scores(fit_head(recipe, split), space), result)

    fewer = split.without(np.arange(16) < 4, np.zeros(14, np.bool_))
    assert np.abs(scores(fit_head(recipe, fewer), space) - result).max() > 1e-3


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "constant"])
def test_fitted_scores_correlate_with_the_ratings(name: str, space: RatedSpace, fitted: Callable[[str], Head]) -> None:
    actual = scores(fitted(name), space, space.expert)
    assert np.corrcoef(actual, space.expert.target)[0, 1] > 0.3


@pytest.mark.parametrize("name", ["prototype-mlp", "mlp", "catboost"])
def test_seed_changes_the_head_and_fitting_preserves_torch_global_state(
    name: str, space: RatedSpace, fitted: Callable[[str], Head]
) -> None:
    torch.manual_seed(4)
    threads, expected = torch.get_num_threads(), torch.rand(3)
    torch.manual_seed(4)
    other = fit_head(RECIPES[name], TrainingSplit.whole(space, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert np.abs(scores(fitted(name), space) - scores(other, space)).max() > 1e-4


def test_unknown_recipe_error_lists_the_recipes() -> None:
    with pytest.raises(InvalidRequest, match=r"unknown head 'best'.*constant, cosine"):
        find_recipe("best")


def test_constant_head_is_the_mean_of_the_training_ratings(space: RatedSpace) -> None:
    split = TrainingSplit.whole(space, 0).without(np.arange(16) < 8, np.zeros(14, np.bool_))
    expected = space.expert.target[space.expert.image >= 8].mean()
    np.testing.assert_allclose(scores(fit_head(RECIPES["constant"], split), space), expected, atol=1e-6)


def test_cosine_head_recovers_the_logistic_curve_of_the_ratings(space: RatedSpace) -> None:
    curve = Calibration(5.0, -1.0, "test")
    pairs = space.expert
    target = curve.score(space.input("similarity", pairs.image, pairs.caption)[:, 0])
    made = replace(space, expert=replace(pairs, target=target))
    head = fit_head(RECIPES["cosine"], TrainingSplit.whole(made, 0))
    assert isinstance(head, CosineHead)
    assert isinstance(head.curve, Calibration)
    assert (head.curve.slope, head.curve.intercept) == pytest.approx((5.0, -1.0), abs=0.01)


def test_isotonic_curve_equals_that_of_scikit_learn(space: RatedSpace) -> None:
    pairs = space.expert
    similarity = space.input("similarity", pairs.image, pairs.caption)[:, 0]
    fitted = IsotonicRegression(out_of_bounds="clip").fit(similarity.astype(np.float64), pairs.target)
    every = every_pair(space)
    expected = fitted.predict(space.input("similarity", every.image, every.caption)[:, 0].astype(np.float64))
    head = fit_head(RECIPES["cosine-isotonic"], TrainingSplit.whole(space, 0))
    np.testing.assert_allclose(scores(head, space), expected, atol=1e-3)


def test_isotonic_curve_of_falling_ratings_is_constant(space: RatedSpace) -> None:
    pairs = space.expert
    similarity = space.input("similarity", pairs.image, pairs.caption)[:, 0]
    falling = replace(space, expert=replace(pairs, target=(0.5 - similarity / 3).astype(np.float32)))
    head = fit_head(RECIPES["cosine-isotonic"], TrainingSplit.whole(falling, 0))
    assert isinstance(head, CosineHead)
    assert isinstance(head.curve, IsotonicCurve)
    np.testing.assert_allclose(scores(head, falling), falling.expert.target.mean(), atol=1e-5)


@pytest.mark.parametrize("images", [16, 3])
def test_linear_head_is_clipped_linear_regression(space: RatedSpace, images: int) -> None:
    split = TrainingSplit.whole(space, 0).without(np.arange(16) >= images, np.zeros(14, np.bool_))
    seen = space.expert.take(split.expert)
    columns = [joined(space.inputs(PROTOTYPE, pairs)).astype(np.float64) for pairs in (seen, every_pair(space))]
    fitted = LinearRegression().fit(columns[0], seen.target.astype(np.float64))
    raw = fitted.predict(columns[1])
    actual = scores(fit_head(RECIPES["prototype-linear"], split), space)
    np.testing.assert_allclose(actual, raw.clip(0, 1), atol=1e-4)
    assert ((raw < 0) | (raw > 1)).any()  # otherwise clipping is not tested


@pytest.mark.parametrize("name", ["prototype-ridge", "linear"])
def test_ridge_head_equals_that_of_scikit_learn(name: str, space: RatedSpace) -> None:
    inputs = RECIPES[name].inputs
    columns = [joined(space.inputs(inputs, pairs)).astype(np.float64) for pairs in (space.expert, every_pair(space))]
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES)).fit(columns[0], space.expert.target)
    head = fit_head(RECIPES[name], TrainingSplit.whole(space, 0))
    assert "parts" not in head.reads
    np.testing.assert_allclose(scores(head, space), model.predict(columns[1]).clip(0, 1), atol=1e-3)


@pytest.mark.parametrize("name", ["prototype-catboost", "catboost"])
def test_tree_head_equals_clipped_catboost_predictions(
    name: str, large: RatedSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Any] = []

    def recorded(**options: Any) -> Any:
        models.append(CatBoostRegressor(**options))
        return models[-1]

    monkeypatch.setattr(classical, "CatBoostRegressor", recorded)
    head = fit_head(RECIPES[name], TrainingSplit.whole(large, 0))
    assert isinstance(head, TreesHead)
    (model,) = models
    assert len(head.leaves) == model.tree_count_
    read = [n for n in ("similarity", "product", "image", "text", "spread") if n in RECIPES[name].inputs]
    predicted = model.predict(joined(large.inputs(read, every_pair(large))))
    np.testing.assert_allclose(scores(head, large), predicted.clip(0, 1), atol=1e-5)
    # With the bit order of the splits reversed, the scores differ.
    reversed_bits = replace(head, feature=head.feature[:, ::-1], border=head.border[:, ::-1])
    assert np.abs(scores(reversed_bits, large) - predicted).max() > 0.05


def test_trees_stop_early_on_noise(large: RatedSpace) -> None:
    noise = np.random.default_rng(0).random(len(large.expert)).astype(np.float32)
    head = fit_head(
        RECIPES["catboost"], TrainingSplit.whole(replace(large, expert=replace(large.expert, target=noise)), 0)
    )
    assert isinstance(head, TreesHead)
    assert len(head.leaves) < 100 < classical.TREE_OPTIONS["iterations"]


def test_trees_stop_early_on_pairs_with_other_images_and_captions(large: RatedSpace) -> None:
    stop, rest = classical._held_out(TrainingSplit.whole(large, 0))
    pairs = large.expert
    assert len(stop) >= 20
    assert not set(pairs.image[stop].tolist()) & set(pairs.image[rest].tolist())
    assert not set(pairs.caption[stop].tolist()) & set(pairs.caption[rest].tolist())


def test_trees_use_all_pairs_if_too_few_can_be_held_out(space: RatedSpace) -> None:
    stop, rest = classical._held_out(TrainingSplit.whole(space, 0))
    assert (len(stop), len(rest)) == (0, len(space.expert))


@pytest.mark.parametrize("name", ["prototype-mlp", "mlp-features"])
def test_exported_network_equals_the_module_in_eval_mode(
    name: str, space: RatedSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Any] = []
    fit_mlp: Callable[..., None] = neural._fit_mlp

    def recorded(module: Any, *rest: Any) -> None:
        fit_mlp(module, *rest)
        trained.append(module)

    monkeypatch.setattr(neural, "_fit_mlp", recorded)
    recipe, split = RECIPES[name], TrainingSplit.whole(space, 0)
    head = fit_network(recipe, split, NetworkOptions(hidden=(9, 5), epochs=15))
    inputs, _ = read_inputs(recipe, split)
    columns = Columns.of(inputs, space.alignment.parts)
    (module,) = trained
    assert all(abs(norm.running_mean).max() > 0.01 for _, norm in module.layers)  # there is something to fold
    with torch.no_grad():
        expected = torch.sigmoid(module(torch.from_numpy(columns.scale(space.inputs(inputs, every_pair(space))))))
    np.testing.assert_allclose(scores(head, space), expected.numpy(), atol=1e-5)


def test_correction_starts_as_the_calibrated_cosine(space: RatedSpace) -> None:
    split = TrainingSplit.whole(space, 0)
    head = fit_correction(RECIPES["mlp"], split, replace(SHORT, steps=1, rate=0.0))
    curve = fit_head(RECIPES["cosine"], split)
    np.testing.assert_allclose(scores(head, space), scores(curve, space), atol=1e-6)


def test_correction_beats_the_cosine_on_unseen_pairs(large: RatedSpace) -> None:
    split = TrainingSplit.whole(large, 0)
    every = every_pair(large)
    seen = set(zip(large.expert.image.tolist(), large.expert.caption.tolist(), strict=True))
    pairs = zip(every.image.tolist(), every.caption.tolist(), strict=True)
    other = every.take(np.flatnonzero([pair not in seen for pair in pairs]))
    errors = {
        name: float(np.sqrt(((scores(fit_head(RECIPES[name], split), large, other) - other.target) ** 2).mean()))
        for name in ("constant", "cosine", "mlp")
    }
    assert errors["mlp"] < 0.95 * errors["cosine"] < 0.9 * errors["constant"]


@pytest.mark.parametrize(
    "options_of",
    [lambda weight: replace(SHORT, crowd_weight=weight), lambda weight: replace(SHORT, lists=weight)],
    ids=["crowd labels", "lists"],
)
def test_crowd_and_list_weights_change_the_correction(
    options_of: Callable[[float], CorrectionOptions], space: RatedSpace
) -> None:
    recipe, split = RECIPES["mlp"], TrainingSplit.whole(space, 0)
    by_weight = [scores(fit_correction(recipe, split, options_of(weight)), space) for weight in (0.0, 0.1, 1.0)]
    changes = [float(np.abs(other - by_weight[0]).mean()) for other in by_weight[1:]]
    assert 1e-4 < changes[0] < changes[1]


def test_list_loss_improves_the_rank_of_own_images(space: RatedSpace) -> None:
    captions = np.flatnonzero(space.owner >= 0)

    def rank(options: CorrectionOptions) -> float:
        """Mean rank of the own image, over all captions that have one."""
        actual = scores(
            fit_correction(RECIPES["mlp"], TrainingSplit.whole(other_owners, 0), options), other_owners
        ).reshape(16, 14)
        own = actual[other_owners.owner[captions], captions]
        return float((actual[:, captions] > own).sum(axis=0).mean())

    # Own images differ from the best rated ones, so that the list loss matters.
    other_owners = replace(space, owner=np.where(space.owner >= 0, (space.owner + 5) % 16, -1))
    assert rank(replace(SHORT, lists=3.0, steps=100)) < rank(replace(SHORT, lists=0.0, steps=100)) - 0.5


def test_missing_crowd_labels_and_owners_equal_zero_weights(space: RatedSpace) -> None:
    recipe = RECIPES["mlp"]
    bare = replace(space, crowd=no_pairs(), owner=np.full(14, -1))
    expected = scores(
        fit_correction(recipe, TrainingSplit.whole(space, 0), replace(SHORT, crowd_weight=0.0, lists=0.0)), space
    )
    np.testing.assert_array_equal(scores(fit_correction(recipe, TrainingSplit.whole(bare, 0), SHORT), space), expected)


def test_list_loss_uses_only_the_split_images_and_captions(space: RatedSpace) -> None:
    """Owners of held-out captions, and ownership by held-out images, do not change the result."""
    split = TrainingSplit.whole(space, 0).without(np.arange(16) == 2, np.arange(14) == 5)
    owner = space.owner.copy()
    owner[5] = 7
    owner[space.owner == 2] = -1
    other = replace(split, space=replace(space, owner=owner))
    assert (owner != space.owner).any()
    expected = scores(fit_correction(RECIPES["mlp"], split, SHORT), space)
    np.testing.assert_array_equal(scores(fit_correction(RECIPES["mlp"], other, SHORT), space), expected)


@pytest.mark.parametrize("name", ["linear", "catboost", "mlp-features", "mlp"])
def test_recipes_work_without_hubness_and_typical_images(name: str) -> None:
    plain = with_plain_alignment()
    head = fit_head(RECIPES[name], TrainingSplit.whole(plain, 0))
    assert "spread" not in head.reads
    assert np.corrcoef(scores(head, plain, plain.expert), plain.expert.target)[0, 1] > 0.3


def test_correction_learns_from_the_second_text_tower() -> None:
    space = drawn_space(40, 30, 600, 0, alignment=with_two_texts(drawn_alignment()))
    unknown = space.as_unknown()
    assert unknown is not None
    assert np.abs(unknown.text_joint - space.text_joint).max() > 0.1
    assert (unknown.spread[:, -1] == 0).all()
    assert unknown.as_unknown() is None
    options = replace(CorrectionOptions(), steps=80)

    def error(weight: float) -> float:
        head = fit_correction(RECIPES["mlp"], TrainingSplit.whole(space, 0), replace(options, unknown_weight=weight))
        return float(np.square(scores(head, unknown, space.expert) - space.expert.target).mean())

    assert error(1.0) < 0.9 * error(0.0)


@pytest.mark.parametrize("names", [("parts",), ("parts", "spread"), ("product", "parts"), OURS])
@pytest.mark.parametrize("plain", [False, True])
def test_first_layer_folds_the_scaling_of_columns(names: tuple[str, ...], plain: bool) -> None:
    """Weights of the cosine's parts are folded into those of the product."""
    space = with_plain_alignment() if plain else drawn_space()
    inputs = space.inputs(names, space.expert)
    columns = Columns.of(inputs, space.alignment.parts)
    rng = np.random.default_rng(0)
    weight, bias = numbers(rng, 6, joined(inputs).shape[1]), numbers(rng, 6)
    first = columns.first_layer(weight, bias)
    assert "parts" not in first.weights
    every = every_pair(space)
    expected = columns.scale(space.inputs(names, every)) @ weight.T + bias
    actual = first(space.inputs(first.weights, every))
    np.testing.assert_allclose(actual, expected, atol=2e-4, rtol=1e-4)


def test_constant_column_gets_zero_weight() -> None:
    rng = np.random.default_rng(0)
    image: Floats = numbers(rng, 50, 3)
    image[:, 1] = 0.7
    columns = Columns.of({"image": image}, np.zeros((1, 1), np.float32))
    scaled = columns.scale({"image": image})
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 0, 1], atol=1e-5)
    first = columns.first_layer(np.ones((1, 3)), np.zeros(1))
    assert first.weights["image"][0, 1] == 0
    np.testing.assert_allclose(first({"image": image})[:, 0], scaled.sum(axis=1), atol=1e-5)


def test_grid_inputs_equal_inputs_of_single_pairs(space: RatedSpace) -> None:
    images, captions = np.array([3, 0, 9]), np.array([2, 11])
    for name in ("similarity", "parts", "product", "image", "text", "spread"):
        grid = space.grid(name, images, captions)
        for i, caption in enumerate(captions):
            single = space.input(name, images, np.full(3, caption))
            np.testing.assert_allclose(grid[i], single, atol=1e-5)
