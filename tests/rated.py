"""Rated pairs in a small random joint space, made without towers and rated by a rule that a head can learn."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sceneseek.vectors import Floats
from sceneseek_export.alignment import Alignment
from sceneseek_export.alignment_maps import normalise
from sceneseek_export.curves import sigmoid
from sceneseek_export.heads import Head
from sceneseek_training.rated import Pairs, Positions, RatedSpace
from sceneseek_training.training_split import TrainingSplit
from tests.weights import CLASSES, TEXT, TOWERS, drawn_alignment, numbers

NOTHING = np.zeros(0, np.int64)


def drawn_space(
    images: int = 16,
    captions: int = 14,
    expert: Iterable[tuple[int, int]] | int = 100,
    crowd: Iterable[tuple[int, int]] | int = 60,
    alignment: Alignment | None = None,
    seed: int = 0,
) -> RatedSpace:
    """Images and captions with random features; each caption belongs to its nearest image, every fourth to none.

    Args:
        images: number of images.
        captions: number of captions.
        expert: the pairs (image, caption), or how many to sample without replacement.
        crowd: likewise.
        alignment: the joint space; default: one with every optional part but a second text tower.
        seed: of the random features and pairs.
    """
    rng, alignment = np.random.default_rng((seed, 7)), alignment or drawn_alignment()
    features = {tower: numbers(rng, images, width) for tower, width in TOWERS.items()}
    texts = normalise(numbers(rng, captions, TEXT))
    image_joint = alignment.image_joint(features, {tower: numbers(rng, images, CLASSES) for tower in TOWERS})
    text_features = {one.text: texts for one in alignment.spaces}
    text_joint = alignment.text_joint(text_features)
    inside = alignment.clipped(features)
    space = RatedSpace(
        alignment=alignment,
        towers=tuple(TOWERS),
        text_towers=("words",),
        image_joint=image_joint,
        features=np.concatenate([inside[tower] for tower in TOWERS], axis=1),
        text_joint=text_joint,
        texts=texts,
        spread=alignment.text_spread(text_features),
        owner=np.where(np.arange(captions) % 4 == 0, -1, (text_joint @ image_joint.T).argmax(axis=1)),
        expert=no_pairs(),
        crowd=no_pairs(),
        unknown=(
            alignment.text_joint(text_features, unknown=True),
            alignment.text_spread(text_features, unknown=True),
        )
        if alignment.mixing
        else None,
    )
    chosen = [
        np.array([divmod(int(p), captions) for p in rng.choice(images * captions, pairs, replace=False)])
        if isinstance(pairs, int)
        else np.array(list(pairs))
        for pairs in (expert, crowd)
    ]
    return rated(space, *(pairs.reshape(-1, 2).astype(np.int64) for pairs in chosen))


def rated(space: RatedSpace, expert: Positions, crowd: Positions) -> RatedSpace:
    """Return the space with these pairs (P, 2) of image and caption, rated by `truth`."""
    drawn = [
        Pairs(image=p[:, 0], caption=p[:, 1], target=truth(space, p[:, 0], p[:, 1]), weight=np.full(len(p), 3, "f4"))
        for p in (expert, crowd)
    ]
    return RatedSpace(**{**vars(space), "expert": drawn[0], "crowd": drawn[1]})


def truth(space: RatedSpace, image: Positions, caption: Positions) -> Floats:
    """The pairs' ratings: they rise with the cosine, and depend on other inputs that a head may read."""
    similarity = space.input("similarity", image, caption)[:, 0]
    own = space.input("parts", image, caption)[:, 0]
    return sigmoid((3 * similarity + 2 * own + 1.5 * space.texts[caption, 0] + space.features[image, 0]).astype("f4"))


def no_pairs() -> Pairs:
    return Pairs(NOTHING, NOTHING, np.zeros(0, np.float32), np.zeros(0, np.float32))


def every_pair(space: RatedSpace) -> Pairs:
    """Every pair of an image and a caption, rated or not."""
    shape = (len(space.image_joint), len(space.text_joint))
    image, caption = (grid.ravel().astype(np.int64) for grid in np.indices(shape))
    return Pairs(image, caption, truth(space, image, caption), np.ones(len(image), np.float32))


def scores(head: Head, space: RatedSpace, pairs: Pairs | None = None) -> Floats:
    """A head's scores of these pairs, by default of every pair."""
    return head.score(space.inputs(head.reads, pairs or every_pair(space)))


def images_of(split: TrainingSplit) -> set[int]:
    """The images of a split's pairs, those of the crowd included."""
    space = split.space
    return {*space.expert.image[split.expert].tolist(), *space.crowd.image[split.crowd].tolist()}


def captions_of(split: TrainingSplit) -> set[int]:
    """The captions of a split's pairs, those of the crowd included."""
    space = split.space
    return {*space.expert.caption[split.expert].tolist(), *space.crowd.caption[split.crowd].tolist()}
