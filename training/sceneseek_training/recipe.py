"""Recipes: how a pack's joint space is learned. A recipe is data; nothing in the code branches on it.

Each figure was chosen on the dev images of Flickr8k together with the demo gallery, never on test images:
a space that is better on one and worse on the other was not taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sceneseek_export.packs import Pack


@dataclass(frozen=True)
class NamesRecipe:
    """The class-name vectors (see `sceneseek_export.alignment`), for towers that are ImageNet-1k classifiers.

    Attributes:
        towers: whose logits are read.
        temperature, top: see `sceneseek_export.alignment_maps.ClassNames`.
        embedding_forms: whose mean is a class's embedding (see `sceneseek_training.classes`).
        pair_forms: that stand as captions of a class that has no image.
        pair_weight: of the loss over such pairs, beside 1 for captions.
        blur: how much of another class's embedding is mixed in at most, as a classifier's doubt would.
        strangers: the share of such pairs that have the features of some photograph, any; the others have
            none. So the map learns to read the class names whatever the features say, which is what carries
            over to pictures unlike those learned from.
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
    """One block that is learned by contrast.

    Attributes:
        towers: whose features it reads, beside the class names.
        share: of the joint similarity.
        dimensions: of its part of a joint vector.
        width: dimensions while it is learned.
        runs: how many times it is learned, each from another beginning; more cost time in training only. With none it
            is the class names and the text as they are.
        names_share: of the block's similarity: the share that the class names and the text have as they are.
    """

    towers: tuple[str, ...]
    share: float = 1.0
    dimensions: int = 256
    width: int = 512
    runs: int = 6
    names_share: float = 0.2


@dataclass(frozen=True)
class RegressionRecipe:
    """The block that predicts what a caption of the image would mean (see `sceneseek_training.joint_space`).

    Attributes:
        towers: whose features it reads, beside the class names.
        share: of the joint similarity.
        dimensions: of its part of a joint vector.
        penalty: of the ridge, beside 1 for the mean variance of an input.
    """

    towers: tuple[str, ...]
    share: float = 0.2
    dimensions: int = 128
    penalty: float = 0.6


@dataclass(frozen=True)
class SpaceRecipe:
    """How one space is learned (see `sceneseek_export.alignment_maps.Space`).

    Attributes:
        text: the text tower.
        blocks: the blocks learned by contrast, in order.
        regression: the block after them, or None.
    """

    text: str
    blocks: tuple[BlockRecipe, ...]
    regression: RegressionRecipe | None = None


@dataclass(frozen=True)
class MixingRecipe:
    """How much each space counts for a text (see `sceneseek_export.alignment_maps.Mixing`).

    Attributes:
        known, unknown, slope, middle: see there.
        penalty: of the ridge from the second text tower to the first one.
    """

    known: tuple[float, ...]
    unknown: tuple[float, ...]
    slope: float = 20.0
    middle: float = 0.5
    penalty: float = 0.05


@dataclass(frozen=True)
class HubnessRecipe:
    """What is taken off images that are near to every text (see `sceneseek_export.alignment_maps.Hubness`).

    Attributes:
        weight, neighbours: see there.
        captions, classes: how many captions, and names of classes, are the bank.
    """

    weight: float = 0.2
    neighbours: int = 10
    captions: int = 600
    classes: int = 400


@dataclass(frozen=True)
class Recipe:
    """How a joint space is learned.

    Attributes:
        spaces: in order.
        names: the class-name vectors, or None.
        whitening: by text tower, the power by which its vectors are whitened before maps over them are learned (see
            `sceneseek_training.affine.Whitening`); of one that is not there, not at all.
        mixing: of several spaces; None where there is one.
        hubness: or None.
        reach: how many standard deviations from its mean a feature may lie before it is clipped.
        typical_rank: see `sceneseek_export.alignment_maps.Typical`: the most eigenvalues that are kept.
        mirrored: whether half of the pictures seen in learning are mirrored left to right.
        epochs, batch: passes over the images; images a step.
        rate, decay: AdamW's learning rate at its peak (one cycle) and its weight decay.
        text_rate: the text map's learning rate, beside the image map's.
        image_dropout, text_dropout: shares of inputs that are dropped.
        blind: the share of images shown by their class names alone, so that these carry weight.
        text_scale, names_scale: the lengths of text and class-name inputs beside standardised features.
        first_features: how small the features' weights begin beside the class names'.
        first_scale: the logarithm of the first inverse temperature.
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
    """A block of each kind over all of a pack's image towers, with the class names of the classifiers.

    A second text tower, for languages that the first does not know, has two spaces: one that is learned from captions
    and counts for all texts, and one of the class names as they are, which carries over to other languages better than
    what is learned from English captions.

    Of a joint space that the towers bring themselves nothing is learned
    (`sceneseek_export.alignment.Alignment.own`).

    Args:
        pack: names the towers.
        classifiers: those of them whose logits are ImageNet-1k's classes.
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
