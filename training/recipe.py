"""Recipes: how a pack's joint space is learned. A recipe is data; nothing in the code branches on it.

Each figure was chosen on the dev images of Flickr8k together with the demo gallery, never on test images:
a space that is better on one and worse on the other was not taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from sceneseek.packs import Pack


@dataclass(frozen=True)
class NamesRecipe:
    """The class-name vectors (see `sceneseek.alignment`), for a tower that is an ImageNet-1k classifier.

    Attributes:
        tower: whose logits are read.
        temperature, top: see `sceneseek.alignment.ClassNames`.
        embedding_forms: whose mean is a class's embedding (see `training.classes`).
        pair_forms: that stand as captions of a class that has no image.
        pair_weight: of the loss over such pairs, beside 1 for captions.
        blur: how much of another class's embedding is mixed in at most, as a classifier's doubt would.
        strangers: the share of such pairs that have the features of some photograph, any; the others have
            none. So the map learns to read the class names whatever the features say, which is what carries
            over to pictures unlike those learned from.
    """

    tower: str
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
    """One learned block.

    Attributes:
        towers: whose features it reads, beside the class names.
        share: of the joint similarity.
        dimensions: of its part of a joint vector.
        width: dimensions while it is learned.
        runs: how many times it is learned, each from another beginning; more cost time in training only.
        names_share: of the block's similarity: the share that the class names and the text have as they are.
    """

    towers: tuple[str, ...]
    share: float = 1.0
    dimensions: int = 256
    width: int = 512
    runs: int = 6
    names_share: float = 0.1


@dataclass(frozen=True)
class Recipe:
    """How a joint space is learned.

    Attributes:
        blocks: the learned blocks, in order.
        names: the class-name block, or None.
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

    blocks: tuple[BlockRecipe, ...]
    names: NamesRecipe | None
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
    """One block over all of a pack's image towers, with the class names of the first classifier.

    Args:
        pack: names the towers.
        classifiers: those of them whose logits are ImageNet-1k's classes.
    """
    towers = tuple(spec.name for spec in pack.image_towers)
    named = next((tower for tower in towers if tower in classifiers), None)
    return Recipe(blocks=(BlockRecipe(towers),), names=NamesRecipe(named) if named else None)
