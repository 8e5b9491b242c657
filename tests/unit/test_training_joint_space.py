"""Training of a joint space is reproducible and improves recall, and folding its maps loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from sceneseek.vectors import Floats
from sceneseek_evaluation.retrieval import exact_ranks
from sceneseek_export.alignment_maps import ClassNames, normalise, rounded
from sceneseek_export.packs import find_pack
from sceneseek_training.affine import AffinePair, plain_names, principal, side_by_side
from sceneseek_training.classes import COUNT, FORMS, class_texts
from sceneseek_training.joint_space import BlockData, Maps, Scaling, fit_block
from sceneseek_training.recipe import BlockRecipe, NamesRecipe, Recipe, RegressionRecipe, recipe_for

IMAGES, FEATURES, TEXT, CLASSES = 60, 20, 12, 30
# The random class names do not correlate with the captions, so their share is small.
BLOCK = BlockRecipe(("t",), dimensions=10, width=16, runs=2, names_share=0.1)
RECIPE = Recipe(spaces=(), names=NamesRecipe(("t",)), epochs=8, batch=16)


def numbers(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: for matrices this small, more threads are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def names() -> ClassNames:
    return ClassNames(("t",), rounded(normalise(numbers(1, CLASSES, TEXT))), 1.5, 5)


@pytest.fixture
def data(names: ClassNames) -> BlockData:
    """Two views of images with features of very different magnitudes, one of them constant.

    Each image has one to three texts, each close to a linear function of its features.
    """
    features = np.stack([numbers(2, IMAGES, FEATURES), numbers(3, IMAGES, FEATURES)]) * np.linspace(0.01, 50, FEATURES)
    features[:, :, 7] = 4.0
    of_names = names.combine_one(numbers(4, IMAGES, CLASSES))
    seen: Floats = (features + 3).astype(np.float32)
    counts = np.random.default_rng(5).integers(1, 4, IMAGES)
    owner = np.repeat(np.arange(IMAGES), counts)
    standard = (seen[0] - seen[0].mean(0)) / (seen[0].std(0) + 1)
    texts = (standard @ numbers(6, FEATURES, TEXT))[owner] + 0.1 * numbers(7, len(owner), TEXT)
    class_texts = normalise(numbers(8, 3 * CLASSES, TEXT)).reshape(3, CLASSES, TEXT)
    return BlockData(seen, np.stack([of_names, of_names]), normalise(texts), owner, names, class_texts)


def test_weights_depend_only_on_seed(data: BlockData) -> None:
    torch.manual_seed(1)
    one = fit_block(data, RECIPE, BLOCK, seed=(3,))
    torch.manual_seed(2)  # torch's global generator has no effect
    same, other = (fit_block(data, RECIPE, BLOCK, seed=(seed,)) for seed in (3, 4))
    for name in ("image_weight", "image_bias", "text_weight", "text_bias"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))


def test_folded_maps_read_what_the_towers_give(data: BlockData) -> None:
    features, names = torch.from_numpy(data.features[0]), torch.from_numpy(data.names[0])
    scaling = Scaling.of(features, RECIPE)
    maps = Maps.first(FEATURES, TEXT, BLOCK, RECIPE, torch.Generator().manual_seed(0))
    folded = maps.folded(scaling)
    with torch.no_grad():
        image = maps.image(scaling.image(features, names)).numpy()
        text = maps.text(torch.from_numpy(data.texts) * RECIPE.text_scale).numpy()
    seen = np.concatenate([data.features[0], data.names[0]], axis=1)
    np.testing.assert_allclose(normalise(folded.image(seen)), image, atol=1e-4)
    np.testing.assert_allclose(normalise(folded.text(data.texts)), text, atol=1e-5)


def pair(seed: int, dimensions: int = 5) -> AffinePair:
    parts = numbers(seed, dimensions, FEATURES + TEXT + 1), numbers(seed + 100, dimensions, TEXT + 1)
    return AffinePair(parts[0][:, 1:], parts[0][:, 0], parts[1][:, 1:], parts[1][:, 0])


def test_side_by_side_pairs_give_weighted_sum_of_cosines() -> None:
    images, texts = numbers(20, 1, FEATURES + TEXT), numbers(21, 1, TEXT)
    both = side_by_side([pair(22), pair(23)], [0.7, 0.3], images, texts)
    alone = [float(normalise(one.image(images))[0] @ normalise(one.text(texts))[0]) for one in (pair(22), pair(23))]
    together = float(both.image(images)[0] @ both.text(texts)[0])
    assert together == pytest.approx(0.7 * alone[0] + 0.3 * alone[1], abs=1e-5)


def test_projection_to_all_text_directions_preserves_products() -> None:
    images, texts = numbers(24, 30, FEATURES + TEXT), numbers(25, 200, TEXT)
    wide = side_by_side([pair(26, 40), pair(27, 40)], [0.5, 0.5], images, texts)
    small = principal(wide, texts, TEXT + 1)
    assert small.text_bias.shape == (TEXT + 1,)
    np.testing.assert_allclose(
        small.text(texts) @ small.image(images).T, wide.text(texts) @ wide.image(images).T, atol=1e-4
    )


def test_plain_names_give_product_with_class_names() -> None:
    names, texts, centre = numbers(28, 3, TEXT), numbers(29, 4, TEXT), numbers(31, TEXT)
    plain = plain_names(FEATURES, centre)
    seen = np.concatenate([numbers(30, 3, FEATURES), names], axis=1)
    np.testing.assert_allclose(plain.text(texts) @ plain.image(seen).T, (texts - centre) @ names.T, atol=1e-5)


def test_a_block_without_runs_compares_class_names_with_texts_about_their_mean(data: BlockData) -> None:
    names = normalise(numbers(32, IMAGES, TEXT))[None]
    data = replace(data, features=np.zeros((1, IMAGES, 0), np.float32), names=names, power=0.25)
    recipe = replace(BLOCK, towers=(), runs=0, names_share=1.0, dimensions=TEXT)
    block = fit_block(data, RECIPE, recipe, seed=(0,))
    assert (block.towers, block.share) == ((), 1.0)
    images = normalise(data.names[0] @ block.image_weight.T + block.image_bias)
    found = images @ normalise(data.texts @ block.text_weight.T + block.text_bias).T
    about = normalise(data.texts - data.whitening.centre)
    np.testing.assert_allclose(found, data.names[0] @ about.T, atol=5e-3)


def test_what_is_stored_loses_little_even_where_a_feature_hardly_varies(data: BlockData) -> None:
    features, names = torch.from_numpy(data.features[0]), torch.from_numpy(data.names[0])
    folded = Maps.first(FEATURES, TEXT, BLOCK, RECIPE, torch.Generator().manual_seed(0)).folded(
        Scaling.of(features, RECIPE)
    )
    seen = np.concatenate([features, names], axis=1)
    block = folded.stored(("t",), 1.0, seen.mean(axis=0), data.texts.mean(axis=0))
    np.testing.assert_allclose(
        normalise(seen @ block.image_weight.T + block.image_bias), normalise(folded.image(seen)), atol=5e-3
    )


def test_weights_are_already_those_that_will_be_stored(data: BlockData) -> None:
    block = fit_block(data, RECIPE, BLOCK, seed=(0,))
    for name in ("image_weight", "image_bias", "text_weight", "text_bias"):
        weights = getattr(block, name)
        assert np.isfinite(weights).all()
        np.testing.assert_array_equal(weights, rounded(weights))


def test_learning_brings_captions_to_their_images(data: BlockData) -> None:
    def recall(epochs: int) -> float:
        recipe = replace(RECIPE, epochs=epochs, rate=5e-3, image_dropout=0.1)
        block = fit_block(data, recipe, BLOCK, seed=(0,))
        inputs = np.concatenate([data.features[0], data.names[0]], axis=1)
        images = normalise(inputs @ block.image_weight.T + block.image_bias)
        texts = normalise(data.texts @ block.text_weight.T + block.text_bias)
        return float((exact_ranks(images, texts, data.owner) == 1).mean())

    assert recall(60) > max(0.5, 3 * recall(1))


def test_recipe_blocks_read_all_towers_and_shares_sum_to_one() -> None:
    pack = find_pack("compact")
    recipe = recipe_for(pack, classifiers=set())
    assert [space.text for space in recipe.spaces] == ["minilm", "e5"]
    for space in recipe.spaces:
        blocks: list[BlockRecipe | RegressionRecipe] = [
            *space.blocks,
            *([space.regression] if space.regression else []),
        ]
        assert all(block.towers == ("lite0", "lite2") for block in blocks)
        assert sum(block.share for block in blocks) == pytest.approx(1)


def test_a_pack_without_a_classifier_learns_from_captions_alone(data: BlockData) -> None:
    recipe = replace(recipe_for(find_pack("compact"), classifiers=set()), epochs=1, batch=16)
    assert recipe.names is None
    (block,) = recipe.spaces[0].blocks
    blind, nothing = np.zeros((1, IMAGES, 0), np.float32), np.zeros((0, 0, TEXT), np.float32)
    alone = replace(data, features=data.features[:1], names=blind, class_names=None, class_texts=nothing)
    learned = fit_block(alone, recipe, block, seed=(0,))
    assert learned.image_weight.shape == (TEXT + 1, FEATURES)  # all the directions that texts have


@pytest.mark.parametrize("classifiers", [("lite0",), ("lite2",), ("lite0", "lite2")], ids="+".join)
def test_recipe_uses_class_names_of_each_classifier(classifiers: tuple[str, ...]) -> None:
    recipe = recipe_for(find_pack("compact"), classifiers=set(classifiers))
    assert recipe.names is not None
    assert recipe.names.towers == classifiers
    assert {*recipe.names.embedding_forms, *recipe.names.pair_forms} <= set(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_every_class_has_a_text_of_every_form(form: str) -> None:
    texts = class_texts(form)
    assert len(texts) == COUNT
    assert all(text.strip() for text in texts)
    assert len(set(texts)) > 0.95 * COUNT
