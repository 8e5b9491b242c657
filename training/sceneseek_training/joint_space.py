"""Learning the linear maps of a joint space from images, captions and class names.

The loss is the symmetric contrastive one (InfoNCE: van den Oord et al. 2018; both directions as in CLIP,
Radford et al. 2021) over batches of images with one of their captions each, and over batches of classes
without images: the class's embedding stands for the image, its name in some form for the caption. A block
is learned several times from different beginnings; the maps are put side by side, beside the class names
themselves, and cut to the directions that matter (see `affine`). What is stored reads what the towers give.

Everything random comes from generators of the given seed: the same inputs give the same weights on the same
machine with the same number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from sceneseek.vectors import Floats
from sceneseek_export.alignment import ClassNames, LearnedBlock
from sceneseek_training.affine import plain_names, principal, side_by_side
from sceneseek_training.maps import Maps, Scaling
from sceneseek_training.recipe import BlockRecipe, NamesRecipe, Recipe


@dataclass(frozen=True)
class Views:
    """The images that a block learns from, seen in one or more ways (as they are, mirrored).

    Attributes:
        features: (V, N, F), as the towers give them, side by side.
        names: (V, N, T) class-name vectors of length 1, or (V, N, 0).
    """

    features: Floats
    names: Floats


@dataclass(frozen=True)
class Lessons:
    """What the images are paired with.

    Attributes:
        texts: (M, T) of length 1.
        owner: (M,) ascending: the image of each text; every image has one at least.
        names: the class-name block, or None.
        class_texts: (forms, C, T) of length 1: what stands for captions of classes; empty without names.
    """

    texts: Floats
    owner: npt.NDArray[np.int64]
    names: ClassNames | None
    class_texts: Floats


def learn_block(
    views: Views,
    lessons: Lessons,
    recipe: Recipe,
    block: BlockRecipe,
    seed: tuple[int, ...],
    advance: Callable[[], None] = lambda: None,
) -> LearnedBlock:
    """Learn one block.

    Args:
        views: the images.
        lessons: what they are paired with.
        recipe: how.
        block: which of the recipe's blocks.
        seed: numbers that seed everything random.
        advance: called after each epoch of each run.
    """
    features, names = torch.from_numpy(views.features), torch.from_numpy(views.names)
    width, scaling = features.shape[2], Scaling.of(features[0], recipe)
    inputs, pairs = scaling.image(features, names), []
    for run in range(block.runs):
        dice = _generator(*seed, run)
        start = Maps.first(width, lessons.texts.shape[1], block, recipe, dice)
        pairs.append(_Run(inputs, width, lessons, recipe, dice).learn(start, advance).folded(scaling))
    shares = [1 / block.runs] * block.runs
    if recipe.names is not None and block.names_share > 0:
        pairs.append(plain_names(width, lessons.texts.shape[1]))
        shares = [share * (1 - block.names_share) for share in shares] + [block.names_share]
    seen = np.concatenate([views.features[0], views.names[0]], axis=1)
    said = np.concatenate([lessons.texts, lessons.class_texts.reshape(-1, lessons.texts.shape[1])])
    together = principal(side_by_side(pairs, shares, seen, lessons.texts), said, block.dimensions)
    return together.stored(block.towers, block.share, seen.mean(axis=0), said.mean(axis=0))


class _Run:
    """One pass of learning over scaled inputs (V, N, F + T)."""

    def __init__(self, inputs: Tensor, features: int, lessons: Lessons, recipe: Recipe, dice: torch.Generator) -> None:
        self._inputs, self._features, self._recipe, self._dice = inputs, features, recipe, dice
        self._texts = torch.from_numpy(lessons.texts) * recipe.text_scale
        owner = torch.from_numpy(lessons.owner)
        self._count = torch.bincount(owner, minlength=inputs.shape[1])
        self._first = self._count.cumsum(0) - self._count
        self._class_texts = torch.from_numpy(lessons.class_texts) * recipe.text_scale
        self._classes = None if lessons.names is None else torch.from_numpy(lessons.names.embeddings)

    def learn(self, maps: Maps, advance: Callable[[], None]) -> Maps:
        recipe, images = self._recipe, self._inputs.shape[1]
        steps_an_epoch = -(-images // recipe.batch)
        groups = [{"params": maps.of_images}, {"params": maps.of_texts}]
        optimiser = torch.optim.AdamW(groups, weight_decay=recipe.decay)
        rates, steps = [recipe.rate, recipe.rate * recipe.text_rate], recipe.epochs * steps_an_epoch
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps)
        for _ in range(recipe.epochs):
            order = torch.randperm(images, generator=self._dice)
            for chosen in torch.tensor_split(order, steps_an_epoch):
                loss = self._captioned(maps, chosen)
                if self._classes is not None and recipe.names is not None:
                    loss = loss + recipe.names.pair_weight * self._named(maps, self._classes, recipe.names)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimiser.step()
                schedule.step()
            advance()
        return maps

    def _captioned(self, maps: Maps, chosen: Tensor) -> Tensor:
        """The loss of images beside one of their captions each."""
        x = self._inputs[self._below(len(self._inputs), len(chosen)), chosen]
        caption = self._first[chosen] + self._below(self._count[chosen], len(chosen))
        features = self._seen(x[:, : self._features], 1 - self._recipe.blind)
        return maps.contrast(
            maps.image(torch.cat([features, x[:, self._features :]], 1)),
            maps.text(self._dropped(self._texts[caption], self._recipe.text_dropout)),
        )

    def _named(self, maps: Maps, classes: Tensor, recipe: NamesRecipe) -> Tensor:
        """The loss of classes beside their names: no image or any, with the class's blurred embedding."""
        some = torch.randperm(len(classes), generator=self._dice)[: self._recipe.batch]
        others, form = self._below(len(classes), len(some)), self._below(len(self._class_texts), len(some))
        doubt = torch.rand(len(some), 1, generator=self._dice) * recipe.blur
        names = normalize((1 - doubt) * classes[some] + doubt * classes[others], dim=-1) * self._recipe.names_scale
        stranger = self._inputs[0, self._below(self._inputs.shape[1], len(some)), : self._features]
        return maps.contrast(
            maps.image(torch.cat([self._seen(stranger, recipe.strangers), names], 1)),
            maps.text(self._dropped(self._class_texts[form, some], self._recipe.text_dropout)),
        )

    def _seen(self, features: Tensor, share: float) -> Tensor:
        """Features under dropout, of this share of the rows; those of the others are the mean's, 0."""
        kept = torch.rand(len(features), 1, generator=self._dice) < share
        return self._dropped(features, self._recipe.image_dropout) * kept

    def _dropped(self, x: Tensor, share: float) -> Tensor:
        """Dropout that draws from our generator."""
        return x * (torch.rand(x.shape, generator=self._dice) >= share) / (1 - share)

    def _below(self, limits: Tensor | int, count: int) -> Tensor:
        """(count,) whole numbers, each from 0 to below its limit."""
        drawn = torch.rand(count, generator=self._dice, dtype=torch.float64) * limits
        return torch.minimum(drawn.long(), torch.as_tensor(limits) - 1)


def _generator(*seed: int) -> torch.Generator:
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
