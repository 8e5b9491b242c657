"""Rated pairs in the joint space, with all inputs of a head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sceneseek.errors import DataError
from sceneseek.tables import first_few
from sceneseek.vectors import Floats
from sceneseek_evaluation.ratings import Ratings
from sceneseek_export.alignment import Alignment
from sceneseek_export.packs import Pack
from sceneseek_training.features import PackEncoder

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """P pairs of a space's images and captions: positions (P,), targets (P,) in [0, 1], weights (P,)."""

    image: Positions
    caption: Positions
    target: Floats
    weight: Floats

    def __len__(self) -> int:
        return len(self.target)

    def take(self, places: Positions) -> Pairs:
        """Return the pairs at these positions."""
        return Pairs(self.image[places], self.caption[places], self.target[places], self.weight[places])


@dataclass(frozen=True)
class RatedSpace:
    """N images, M captions, and rated pairs of them.

    Attributes:
        alignment: the joint space.
        towers, text_towers: the towers of `features` and of `texts`, in order.
        image_joint, features: (N, D), (N, F); features are clipped to the alignment's ranges and concatenated.
        text_joint, texts, spread: (M, D), (M, T), (M, S); each tower's texts have length 1.
        owner: (M,) the image that a caption was written for, -1 if unknown.
        expert: the pairs with expert ratings.
        crowd: the pairs with crowd labels; empty if there are none.
        unknown: `text_joint` and `spread` of the captions for `as_unknown`, or None.
    """

    alignment: Alignment
    towers: tuple[str, ...]
    text_towers: tuple[str, ...]
    image_joint: Floats
    features: Floats
    text_joint: Floats
    texts: Floats
    spread: Floats
    owner: Positions
    expert: Pairs
    crowd: Pairs
    unknown: tuple[Floats, Floats] | None = None

    def as_unknown(self) -> RatedSpace | None:
        """The space as if captions were in a language that only the second text tower supports; None without one.

        Ratings are in English: training on this space calibrates a head for other languages.
        """
        if self.unknown is None:
            return None
        joint, spread = self.unknown
        return replace(self, text_joint=joint, spread=spread, unknown=None)

    def inputs(self, names: Iterable[str], pairs: Pairs) -> dict[str, Floats]:
        """Return inputs (P, width) by name: those of `sceneseek_export.heads.INPUTS`, and ``parts``."""
        return {name: self.input(name, pairs.image, pairs.caption) for name in names}

    def input(self, name: str, image: Positions, caption: Positions) -> Floats:
        """Return one input (P, width) of the pairs at these positions."""
        if name == "image":
            return self.features[image]
        if name == "text":
            return self.texts[caption]
        if name == "spread":
            return self.spread[caption]
        product: Floats = self.image_joint[image] * self.text_joint[caption]
        if name == "similarity":
            total: Floats = product.sum(axis=1, keepdims=True)
            return total
        if name == "parts":
            parts: Floats = product @ self.alignment.parts
            return parts
        return product

    def grid(self, name: str, images: Positions, captions: Positions) -> Floats:
        """Return one input (m, n, width) of all pairs of m captions and n images."""
        if name == "parts":
            texts, pictures = self.text_joint[captions], self.image_joint[images]
            # One matrix product per part is cheaper than the product of every pair's vectors.
            return np.stack([(texts * column) @ pictures.T for column in self.alignment.parts.T], axis=2)
        if name == "similarity":
            similarity: Floats = self.text_joint[captions] @ self.image_joint[images].T
            return similarity[:, :, None]
        shape = (len(captions), len(images))
        image = np.broadcast_to(images, shape).ravel()
        caption = np.broadcast_to(captions[:, None], shape).ravel()
        return self.input(name, image, caption).reshape(*shape, -1)


def encode_ratings(
    alignment: Alignment,
    pack: Pack,
    encoder: PackEncoder,
    expert: Ratings,
    crowd: Ratings | None,
    captions_of: Mapping[str, Sequence[str]],
) -> tuple[RatedSpace, Ratings]:
    """Encode rated images and captions; return their space, and the expert ratings of decodable images.

    The space also contains the captions of these images (by name, in `captions_of`) that are not rated.

    Raises:
        DataError: images cannot be decoded, or the joint space was trained on a rated image.
    """
    files = dict(zip(expert.names, expert.paths, strict=True))
    if crowd is not None:
        files |= dict(zip(crowd.names, crowd.paths, strict=True))
    found, kept = encoder.encode_images(f"images of {expert.label}", list(files.values()))
    names = [list(files)[i] for i in kept]
    _refuse_learned(alignment, names, found.keys)
    place = {name: i for i, name in enumerate(names)}
    texts, owner = _texts(names, [expert, *([crowd] if crowd else [])], captions_of)
    at = {text: i for i, text in enumerate(texts)}
    vectors = encoder.encode_texts("captions", texts)
    expert = _decodable(expert, place)
    inside = alignment.clipped(found.features)
    return RatedSpace(
        alignment=alignment,
        towers=pack.head_image_towers,
        text_towers=pack.head_text_towers,
        image_joint=alignment.image_joint(found.features, found.logits),
        features=np.concatenate([inside[tower] for tower in pack.head_image_towers], axis=1),
        text_joint=alignment.text_joint(vectors),
        texts=np.concatenate([vectors[tower] for tower in pack.head_text_towers], axis=1),
        spread=alignment.text_spread(vectors),
        owner=owner,
        expert=_pairs(expert, place, at),
        crowd=_pairs(_decodable(crowd, place), place, at) if crowd else _no_pairs(),
        unknown=(alignment.text_joint(vectors, unknown=True), alignment.text_spread(vectors, unknown=True))
        if alignment.mixing
        else None,
    ), expert


def _refuse_learned(alignment: Alignment, names: Sequence[str], keys: npt.NDArray[np.uint64]) -> None:
    shared = [name for name, learned in zip(names, np.isin(keys, alignment.learned_images), strict=True) if learned]
    if shared:
        raise DataError(
            f"the joint space was trained on {len(shared):,} of the rated images: {first_few(shared)}",
            "figures on them would be too good; remove them from the ratings or from the alignment's --split",
        )


def _texts(
    names: Sequence[str], ratings: Sequence[Ratings], captions_of: Mapping[str, Sequence[str]]
) -> tuple[list[str], Positions]:
    """Return the distinct texts, and the image that each was written for; -1 if unknown or several."""
    owners: dict[str, int] = {}
    for i, name in enumerate(names):
        for text in captions_of.get(name, ()):
            owners[text] = i if owners.get(text, i) == i else -1
    for rated in ratings:
        for text in rated.captions:
            owners.setdefault(text, -1)
    return list(owners), np.array(list(owners.values()), np.int64)


def _decodable(ratings: Ratings, place: Mapping[str, int]) -> Ratings:
    usable = np.isin(ratings.image, [i for i, name in enumerate(ratings.names) if name in place])
    if usable.all():
        return ratings
    left = {**ratings.left_out, "of images that cannot be decoded": int((~usable).sum())}
    return ratings.take(np.flatnonzero(usable), left)


def _pairs(ratings: Ratings, place: Mapping[str, int], at: Mapping[str, int]) -> Pairs:
    image = np.array([place.get(name, -1) for name in ratings.names], np.int64)
    caption = np.array([at[text] for text in ratings.captions], np.int64)
    return Pairs(image[ratings.image], caption[ratings.caption], ratings.target, ratings.weight)


def _no_pairs() -> Pairs:
    nothing = np.zeros(0, np.int64)
    return Pairs(nothing, nothing, np.zeros(0, np.float32), np.zeros(0, np.float32))
