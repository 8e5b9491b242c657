"""The regression block, which maps an image to the embedding of its captions, and the whitening of texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sceneseek.vectors import Floats
from sceneseek_export.alignment_maps import LearnedBlock, normalise, rounded
from sceneseek_training.affine import AffinePair, Whitening
from sceneseek_training.joint_space import BlockData, fit_mixing, fit_regression_block
from sceneseek_training.recipe import MixingRecipe, Recipe, RegressionRecipe
from tests.weights import numbers

IMAGES, FEATURES, TEXT, FORMS, CLASSES = 80, 10, 6, 2, 15
BLOCK = RegressionRecipe(("t",), share=0.3, dimensions=TEXT, penalty=1e-6)
RECIPE = Recipe(spaces=(), names=None)
MAPS = ("image_weight", "image_bias", "text_weight", "text_bias")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def data(rng: np.random.Generator) -> BlockData:
    """Two views; features of very different magnitude, one of them constant; class-name vectors.

    Captions know nothing of the first view.
    """
    features = numbers(rng, 2, IMAGES, FEATURES) * np.geomspace(0.01, 50, FEATURES, dtype=np.float32) + 3
    features[:, :, 4] = 7
    names = np.stack([normalise(numbers(rng, IMAGES, TEXT)) for _ in range(2)])
    owner = np.repeat(np.arange(IMAGES), rng.integers(1, 4, IMAGES))
    texts = normalise(numbers(rng, len(owner), TEXT))
    class_texts = np.stack([normalise(numbers(rng, CLASSES, TEXT)) for _ in range(FORMS)])
    return BlockData(features.astype(np.float32), names, texts, owner, None, class_texts)


def linear_in(data: BlockData) -> BlockData:
    """The same with one caption per image, an affine function of its features and class names."""
    rng = np.random.default_rng(1)
    spread = data.features[0].std(axis=0) + np.float32(1e-9)
    standard = np.where(spread > 1e-5, (data.features[0] - data.features[0].mean(axis=0)) / spread, 0)
    seen = np.concatenate([standard, data.names[0]], axis=1)
    # Close to a common direction, so that normalising the captions hardly changes the relation.
    captions = normalise(numbers(rng, 1, TEXT)) + 0.02 * seen @ numbers(rng, FEATURES + TEXT, TEXT)
    return replace(data, texts=normalise(captions.astype(np.float32)), owner=np.arange(IMAGES))


def images_of(block: LearnedBlock, data: BlockData, view: int = 0) -> Floats:
    """The image map of a view, before normalisation."""
    return np.concatenate([data.features[view], data.names[view]], axis=1) @ block.image_weight.T + block.image_bias


def texts_of(block: LearnedBlock, texts: Floats) -> Floats:
    return texts @ block.text_weight.T + block.text_bias


def test_fit_is_deterministic(data: BlockData) -> None:
    torch.manual_seed(1)
    one = fit_regression_block(data, RECIPE, BLOCK)
    torch.manual_seed(2)
    np.random.seed(2)  # the global generator has no effect
    two = fit_regression_block(data, RECIPE, BLOCK)
    for name in MAPS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_linear_relation_is_learned_across_feature_magnitudes(data: BlockData) -> None:
    data = replace(data, features=data.features[:1], names=data.names[:1])
    known = linear_in(data)
    block = fit_regression_block(known, RECIPE, BLOCK)
    found = images_of(block, data)
    meant = texts_of(block, known.texts)
    # Of what tells the images apart, next to nothing is left unexplained.
    assert np.square(found - meant).sum() < 0.02 * np.square(meant - meant.mean(axis=0)).sum()
    unrelated = fit_regression_block(replace(data, owner=known.owner, texts=data.texts[:IMAGES]), RECIPE, BLOCK)
    there = texts_of(unrelated, data.texts[:IMAGES])
    left = np.square(images_of(unrelated, data) - there).sum() / np.square(there - there.mean(axis=0)).sum()
    assert left > 0.5


def test_target_is_the_direction_of_the_mean_caption(data: BlockData) -> None:
    total = np.stack([data.texts[data.owner == image].sum(axis=0) for image in range(IMAGES)])
    meant = replace(data, texts=normalise(total), owner=np.arange(IMAGES))
    several, one = (fit_regression_block(found, RECIPE, BLOCK) for found in (data, meant))
    # The directions of the texts differ, as do the texts; what an image is compared with does not.
    np.testing.assert_allclose(
        images_of(several, data) @ texts_of(several, data.texts).T,
        images_of(one, data) @ texts_of(one, data.texts).T,
        atol=0.02,
    )


def test_mean_image_maps_to_the_mean_of_its_captions(data: BlockData) -> None:
    known = replace(data, texts=data.texts[:IMAGES], owner=np.arange(IMAGES))
    block = fit_regression_block(known, RECIPE, replace(BLOCK, penalty=0.6))
    both = np.concatenate([images_of(block, data, view) for view in (0, 1)])
    np.testing.assert_allclose(both.mean(axis=0), texts_of(block, known.texts).mean(axis=0), atol=5e-3)


def test_penalty_shrinks_mapped_images(data: BlockData) -> None:
    def spread(penalty: float) -> float:
        block = fit_regression_block(data, RECIPE, replace(BLOCK, penalty=penalty))
        return float(images_of(block, data).std(axis=0).sum())

    free, some, strong = (spread(penalty) for penalty in (1e-6, 1.0, 1e3))
    assert strong < 0.01 * free
    assert strong < some < 0.9 * free


def test_weights_are_rounded_for_storage(data: BlockData) -> None:
    block = fit_regression_block(data, RECIPE, BLOCK)
    for name in MAPS:
        weights = getattr(block, name)
        assert weights.dtype == np.float32
        assert np.isfinite(weights).all()
        np.testing.assert_array_equal(weights, rounded(weights))


def test_block_has_the_shape_and_share_of_its_recipe(data: BlockData) -> None:
    block = fit_regression_block(data, RECIPE, replace(BLOCK, dimensions=4))
    assert (block.towers, block.share) == (("t",), 0.3)
    assert block.image_weight.shape == (4, FEATURES + TEXT)
    assert block.text_weight.shape == (4, TEXT)
    bare = replace(data, names=data.names[:, :, :0], class_texts=np.zeros((0, 0, TEXT), np.float32))
    assert fit_regression_block(bare, RECIPE, BLOCK).image_weight.shape == (TEXT, FEATURES)


def test_text_map_preserves_the_principal_directions_of_texts(data: BlockData) -> None:
    # Texts that lie in a plane, but for a little: two dimensions keep their comparisons.
    rng = np.random.default_rng(2)
    plane = numbers(rng, 2, TEXT)
    texts = normalise(numbers(rng, len(data.owner), 2) @ plane + 0.01 * numbers(rng, len(data.owner), TEXT))
    flat = replace(data, texts=texts, class_texts=np.zeros((0, 0, TEXT), np.float32))
    seen = texts_of(fit_regression_block(flat, RECIPE, replace(BLOCK, dimensions=2)), texts)
    np.testing.assert_allclose(seen @ seen.T, texts @ texts.T, atol=0.01)


@pytest.mark.parametrize("power", [0.25, 0.5])
def test_whitened_texts_have_the_variances_of_the_power(rng: np.random.Generator, power: float) -> None:
    texts = numbers(rng, 500, TEXT) * np.geomspace(0.1, 2, TEXT, dtype=np.float32) + 4
    names = numbers(rng, 50, TEXT)
    whitening = Whitening.of(texts, names, power)
    after = whitening.texts(texts)
    np.testing.assert_allclose(after.mean(axis=0), 0, atol=1e-4)
    assert np.linalg.norm(after, axis=1).mean() == pytest.approx(1, abs=1e-4)
    assert np.linalg.norm(whitening.names(names), axis=1).mean() == pytest.approx(1, abs=1e-4)
    whitened, variances = (np.linalg.eigvalsh(np.cov(rows.T)) for rows in (after, texts))
    np.testing.assert_allclose(whitened / whitened[-1], (variances / variances[-1]) ** (1 - 2 * power), rtol=1e-3)


def test_power_zero_leaves_texts_and_names_unchanged(rng: np.random.Generator) -> None:
    texts, names = numbers(rng, 20, TEXT), numbers(rng, 5, TEXT)
    whitening = Whitening.of(texts, names, 0)
    np.testing.assert_array_equal(whitening.texts(texts), texts)
    np.testing.assert_array_equal(whitening.names(names), names)


def test_maps_over_whitened_vectors_convert_to_maps_over_tower_vectors(rng: np.random.Generator) -> None:
    texts, names, features = normalise(numbers(rng, 40, TEXT) + 2), numbers(rng, 40, TEXT), numbers(rng, 40, FEATURES)
    whitening = Whitening.of(texts, names, 0.25)
    learned = AffinePair(
        *(numbers(rng, 4, FEATURES + TEXT), numbers(rng, 4)), *(numbers(rng, 4, TEXT), numbers(rng, 4))
    )
    before = whitening.before(learned)
    np.testing.assert_allclose(before.text(texts), learned.text(whitening.texts(texts)), atol=1e-4)
    seen, white = (np.concatenate([features, of_names], axis=1) for of_names in (names, whitening.names(names)))
    np.testing.assert_allclose(before.image(seen), learned.image(white), atol=1e-4)


def test_whitening_separates_nearly_parallel_texts(rng: np.random.Generator, data: BlockData) -> None:
    near = linear_in(data)

    def spread(power: float) -> float:
        """How far the cosines of the images with a text lie apart."""
        block = fit_regression_block(replace(near, power=power), RECIPE, BLOCK)
        mapped = normalise(near.texts @ block.text_weight.T + block.text_bias)
        return float((normalise(images_of(block, data)) @ mapped.T).std(axis=0).mean())

    assert spread(0.5) > 10 * spread(0)


def test_mixing_distinguishes_known_from_unknown_texts(rng: np.random.Generator) -> None:
    second = normalise(numbers(rng, 300, TEXT))
    first = normalise(second @ numbers(rng, TEXT, TEXT).T + numbers(rng, TEXT))
    recipe = MixingRecipe(known=(0.8, 0.2), unknown=(0.1, 0.9), penalty=1e-6)
    mixing = fit_mixing(("a", "b"), first, second, recipe)
    known, unknown = (mixing.weights(mixing.understood({"a": read, "b": second}))[:, 1] for read in (first, -first))
    assert known.max() < 0.21
    assert unknown.min() > 0.89
