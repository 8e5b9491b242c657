"""Recipes: the hyperparameters of a pack's joint space, as data.

The values were chosen on the dev images of Flickr8k together with the demo gallery, never on test images: a space that
was better on one and worse on the other was rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sceneseek_export.packs import Pack


@dataclass(frozen=True)
class NamesRecipe:
    """The class-name vectors (see `sceneseek_export.alignment`), for towers that are ImageNet-1k classifiers.

    Attributes:
        towers: the towers whose logits are read.
        temperature, top: see `sceneseek_export.alignment_maps.ClassNames`.
        embedding_forms: the text forms whose mean is a class's embedding (see `sceneseek_training.classes`).
        pair_forms: the text forms that serve as captions of a class, in pairs without an image.
        pair_weight: weight of the loss over such pairs; that of captions is 1.
        blur: maximum share of another class's embedding that is mixed in, to simulate an uncertain classifier.
        strangers: share of such pairs with the features of a random photograph; the others have none. The map thus
            learns to use the class names whatever the features, which generalizes to pictures unlike the training
            images.
    """

    towers: tuple[str, ...]
    temperature: float = 2.0
    top: int = 20
    embedding_forms: tuple[str, ...] = ("name", "caption", "name and description")
    pair_forms: tuple[str, ...] = (
        "name",
        "photo",
        "caption",
        "sentence",
        "two",
        "first synonym",
        "middle synonym",
        "last synonym",
        "names",
        "description",
        "first of description",
        "second of description",
        "name and description",
    )
    pair_weight: float = 0.3
    blur: float = 0.35
    strangers: float = 0.5


@dataclass(frozen=True)
class BlockRecipe:
    """One contrastive block.

    Attributes:
        towers: the image towers whose features it reads, besides the class names.
        share: share of the joint similarity.
        dimensions: dimensions of its part of a joint vector.
        width: dimensions during training.
        runs: number of training runs from different initial weights; more runs only slow training down. With 0 the
            block consists of the unchanged class names and text.
        names_share: share of the block's similarity that comes from the unchanged class names and text.
    """

    towers: tuple[str, ...]
    share: float = 1.0
    dimensions: int = 256
    width: int = 512
    runs: int = 6
    names_share: float = 0.2


@dataclass(frozen=True)
class RegressionRecipe:
    """The block that predicts the mean vector of an image's captions (see `sceneseek_training.joint_space`).

    Attributes:
        towers: the image towers whose features it reads, besides the class names.
        share: share of the joint similarity.
        dimensions: dimensions of its part of a joint vector.
        penalty: ridge penalty, relative to the mean variance of an input.
    """

    towers: tuple[str, ...]
    share: float = 0.2
    dimensions: int = 128
    penalty: float = 0.6


@dataclass(frozen=True)
class SpaceRecipe:
    """The recipe of one space (see `sceneseek_export.alignment_maps.Space`).

    Attributes:
        text: the text tower.
        blocks: the contrastive blocks, in order.
        regression: the regression block after them, or None.
    """

    text: str
    blocks: tuple[BlockRecipe, ...]
    regression: RegressionRecipe | None = None


@dataclass(frozen=True)
class MixingRecipe:
    """The weight of each space for a text (see `sceneseek_export.alignment_maps.Mixing`).

    Attributes:
        known, unknown, slope, middle: see there.
        penalty: penalty of the ridge regression from the second text tower to the first.
    """

    known: tuple[float, ...]
    unknown: tuple[float, ...]
    slope: float = 20.0
    middle: float = 0.5
    penalty: float = 0.05


@dataclass(frozen=True)
class HubnessRecipe:
    """The penalty for images that are near to every text (see `sceneseek_export.alignment_maps.Hubness`).

    Attributes:
        weight, neighbours: see there.
        captions, classes: number of captions and of class names in the bank.
    """

    weight: float = 0.2
    neighbours: int = 10
    captions: int = 600
    classes: int = 400


@dataclass(frozen=True)
class Recipe:
    """The recipe of a joint space.

    Attributes:
        spaces: the recipes of the spaces, in order.
        names: the class-name vectors, or None.
        whitening: by text tower, the power of the whitening of its vectors before maps are trained (see
            `sceneseek_training.affine.Whitening`); the vectors of other towers are not whitened.
        mixing: the mixing of several spaces; None for a single space.
        hubness: the hubness penalty, or None.
        reach: number of standard deviations from the mean beyond which a feature is clipped.
        typical_rank: maximum number of eigenvalues to keep (see `sceneseek_export.alignment_maps.Typical`).
        mirrored: whether half of the training pictures are mirrored left to right.
        epochs, batch: passes over the images; images per step.
        rate, decay: AdamW's peak learning rate (one cycle) and weight decay.
        text_rate: learning rate of the text map, relative to that of the image map.
        image_dropout, text_dropout: dropout rates of the inputs.
        blind: share of images represented by their class names alone, so that these gain weight.
        text_scale, names_scale: lengths of text and class-name inputs, next to standardised features.
        first_features: initial scale of the features' weights, relative to the class names'.
        first_scale: logarithm of the initial inverse temperature.
    """

    spaces: tuple[SpaceRecipe, ...]
    names: NamesRecipe | None
    whitening: Mapping[str, float] = field(default_factory=dict)
    mixing: MixingRecipe | None = None
    hubness: HubnessRecipe | None = HubnessRecipe()
    reach: float = 3.0
    typical_rank: int = 64
    mirrored: bool = True
    epochs: int = 25
    batch: int = 512
    rate: float = 1e-3
    decay: float = 1e-2
    text_rate: float = 0.3
    image_dropout: float = 0.5
    text_dropout: float = 0.1
    blind: float = 0.1
    text_scale: float = 6.0
    names_scale: float = 20.0
    first_features: float = 0.3
    first_scale: float = 2.7


def recipe_for(pack: Pack, classifiers: set[str]) -> Recipe:
    """Return a block of each kind over all of a pack's image towers, with the class names of the classifiers.

    A second text tower, for languages that the first does not support, gets two spaces: one trained on captions, which
    counts for all texts, and one of the unchanged class names, which transfers to other languages better than maps
    trained on English captions.

    Nothing is trained if the towers have a joint space of their own (`sceneseek_export.alignment.Alignment.own`).

    Args:
        pack: the pack of towers.
        classifiers: the names of the towers whose logits are those of ImageNet-1k's classes.
    """
    if pack.joint_space is not None:
        return Recipe(spaces=(), names=None, hubness=None)
    towers = tuple(spec.name for spec in pack.image_towers)
    named = tuple(tower for tower in towers if tower in classifiers)
    names = NamesRecipe(named) if named else None
    regression = RegressionRecipe(towers)
    if len(pack.text_towers) == 1:
        (text,) = pack.text_towers
        return Recipe((SpaceRecipe(text.name, (BlockRecipe(towers, share=1 - regression.share),), regression),), names)
    first, second = (spec.name for spec in pack.text_towers)
    regression = replace(regression, dimensions=96)
    spaces = [
        SpaceRecipe(first, (BlockRecipe(towers, share=1 - regression.share, dimensions=192),), regression),
        SpaceRecipe(second, (BlockRecipe(towers, names_share=0.0, dimensions=192),)),
        SpaceRecipe(second, (BlockRecipe((), names_share=1.0, dimensions=224, runs=0),)),
    ]
    mixing = MixingRecipe(known=(0.6, 0.4, 0.1), unknown=(0.0, 0.3, 0.7))
    if names is None:
        spaces, mixing = spaces[:2], MixingRecipe(known=(0.6, 0.4), unknown=(0.0, 1.0))
    return Recipe(tuple(spaces), names, {second: 0.25}, mixing, HubnessRecipe(captions=300, classes=200))
