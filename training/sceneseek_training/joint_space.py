"""Training the affine maps of a joint space from images, captions and class names.

Blocks are trained by contrast: the loss is the symmetric one (InfoNCE: van den Oord et al. 2018; both directions as in
CLIP, Radford et al. 2021) over batches of images with one of their captions each, and over batches of classes without
images: the class's embedding stands for the image, its name in some form for the caption. A block is trained several
times from different initial weights; the maps are put side by side, beside the class names themselves, and cut to the
directions that matter (see `affine`). What is stored reads what the towers give.

One more block is ridge regression (Hoerl and Kennard, Technometrics 12, 1970, in closed form) from an image to the mean
of its captions' vectors. Contrast asks which caption belongs to which image, and has no use for how wrong the others
are. People who rate pairs have: a dog beside a text of a cat matches a little. Distances between texts know that
already, so this block brings an image to where its captions lie among texts. Its text map is no more than the texts'
principal directions.

All randomness comes from generators of the given seed: the same inputs give the same weights on the same machine with
the same number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from sceneseek.vectors import Floats
from sceneseek_export.alignment_maps import ClassNames, LearnedBlock, Mixing, normalise, rounded
from sceneseek_training.affine import AffinePair, plain_names, principal, side_by_side
from sceneseek_training.recipe import BlockRecipe, NamesRecipe, Recipe, RegressionRecipe, SecondTextRecipe

# A feature that varies less, beside its size, counts as constant: divided by its deviation and multiplied by
# its mean it would drown the others' bits in float16.
_LEAST_VARIATION = 1e-3


@dataclass(frozen=True)
class Scaling:
    """How inputs are scaled: features by their `mean` and `deviation` (F,), the others by a number."""

    mean: Tensor
    deviation: Tensor
    names: float
    text: float

    @classmethod
    def of(cls, features: Tensor, recipe: Recipe) -> Scaling:
        """Features (N, F) are brought to mean 0 and deviation 1; those that do not vary, to 0."""
        mean, deviation = features.mean(0), features.std(0)
        constant = deviation <= _LEAST_VARIATION * features.square().mean(0).sqrt()
        return cls(mean, deviation.masked_fill(constant, torch.inf), recipe.names_scale, recipe.text_scale)

    def image(self, features: Tensor, names: Tensor) -> Tensor:
        """The image map's input (..., F + T)."""
        return torch.cat([(features - self.mean) / self.deviation, self.names * names], -1)


@dataclass(frozen=True)
class Maps:
    """Image weight (d, F + T) and bias (d,), text weight (d, T) and bias (d,), log of the inverse temperature."""

    image_weight: Tensor
    image_bias: Tensor
    text_weight: Tensor
    text_bias: Tensor
    scale: Tensor

    @classmethod
    def first(cls, features: int, texts: int, block: BlockRecipe, recipe: Recipe, rng: torch.Generator) -> Maps:
        """Class names and texts begin with the same rotation, so that they compare well from the start."""
        d, named = block.width, texts if recipe.names else 0
        rotation = torch.linalg.qr(torch.randn(max(d, texts), min(d, texts), generator=rng))[0]
        rotation = rotation if d >= texts else rotation.T
        bound = (features + named) ** -0.5
        weights = _uniform((d, features), bound, rng) * recipe.first_features
        start = cls(
            torch.cat([weights, 2 * rotation[:, :named] / recipe.names_scale], 1),
            _uniform((d,), bound, rng),
            2 * rotation / recipe.text_scale,
            _uniform((d,), texts**-0.5, rng),
            torch.tensor(recipe.first_scale),
        )
        for parameter in (*start.of_images, *start.of_texts):
            parameter.requires_grad_()
        return start

    @property
    def of_images(self) -> list[Tensor]:
        """The image map's parameters, and the temperature."""
        return [self.image_weight, self.image_bias, self.scale]

    @property
    def of_texts(self) -> list[Tensor]:
        """The text map's parameters."""
        return [self.text_weight, self.text_bias]

    def image(self, inputs: Tensor) -> Tensor:
        """(N, F + T) scaled inputs to (N, d) of length 1."""
        return normalize(inputs @ self.image_weight.T + self.image_bias, dim=-1)

    def text(self, inputs: Tensor) -> Tensor:
        """(N, T) scaled inputs to (N, d) of length 1."""
        return normalize(inputs @ self.text_weight.T + self.text_bias, dim=-1)

    def contrast(self, images: Tensor, texts: Tensor) -> Tensor:
        """The symmetric contrastive loss of N pairs of vectors of length 1."""
        logits, own = self.scale.exp() * images @ texts.T, torch.arange(len(images))
        return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2

    def folded(self, scaling: Scaling) -> AffinePair:
        """The same maps over unscaled inputs."""
        with torch.no_grad():
            features = len(scaling.mean)
            of_features = self.image_weight[:, :features] / scaling.deviation
            of_names = self.image_weight[:, features:] * scaling.names
            return AffinePair(
                image_weight=torch.cat([of_features, of_names], 1).numpy(),
                image_bias=(self.image_bias - of_features @ scaling.mean).numpy(),
                text_weight=(self.text_weight * scaling.text).numpy(),
                text_bias=self.text_bias.numpy(),
            )


def _uniform(shape: tuple[int, ...], bound: float, rng: torch.Generator) -> Tensor:
    return (2 * torch.rand(shape, generator=rng) - 1) * bound


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
class PairedTexts:
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


def fit_block(
    views: Views,
    paired: PairedTexts,
    recipe: Recipe,
    block: BlockRecipe,
    seed: tuple[int, ...],
    advance: Callable[[], None] = lambda: None,
) -> LearnedBlock:
    """Learn one block.

    Args:
        views: the images.
        paired: what they are paired with.
        recipe: how.
        block: which of the recipe's blocks.
        seed: numbers that seed everything random.
        advance: called after each epoch of each run.
    """
    features, names = torch.from_numpy(views.features), torch.from_numpy(views.names)
    width, scaling = features.shape[2], Scaling.of(features[0], recipe)
    inputs, pairs = scaling.image(features, names), []
    for run in range(block.runs):
        rng = _generator(*seed, run)
        start = Maps.first(width, paired.texts.shape[1], block, recipe, rng)
        pairs.append(_Run(inputs, width, paired, recipe, rng).learn(start, advance).folded(scaling))
    shares = [1 / block.runs] * block.runs
    if recipe.names is not None and block.names_share > 0:
        pairs.append(plain_names(width, paired.texts.shape[1]))
        shares = [share * (1 - block.names_share) for share in shares] + [block.names_share]
    seen = np.concatenate([views.features[0], views.names[0]], axis=1)
    said = np.concatenate([paired.texts, paired.class_texts.reshape(-1, paired.texts.shape[1])])
    together = principal(side_by_side(pairs, shares, seen, paired.texts), said, block.dimensions)
    return together.stored(block.towers, block.share, seen.mean(axis=0), said.mean(axis=0))


class _Run:
    """One pass of learning over scaled inputs (V, N, F + T)."""

    def __init__(
        self, inputs: Tensor, features: int, paired: PairedTexts, recipe: Recipe, rng: torch.Generator
    ) -> None:
        self._inputs, self._features, self._recipe, self._rng = inputs, features, recipe, rng
        self._texts = torch.from_numpy(paired.texts) * recipe.text_scale
        owner = torch.from_numpy(paired.owner)
        self._count = torch.bincount(owner, minlength=inputs.shape[1])
        self._first = self._count.cumsum(0) - self._count
        self._class_texts = torch.from_numpy(paired.class_texts) * recipe.text_scale
        self._classes = None if paired.names is None else torch.from_numpy(paired.names.embeddings)

    def learn(self, maps: Maps, advance: Callable[[], None]) -> Maps:
        recipe, images = self._recipe, self._inputs.shape[1]
        steps_an_epoch = -(-images // recipe.batch)
        groups = [{"params": maps.of_images}, {"params": maps.of_texts}]
        optimiser = torch.optim.AdamW(groups, weight_decay=recipe.decay)
        rates, steps = [recipe.rate, recipe.rate * recipe.text_rate], recipe.epochs * steps_an_epoch
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps)
        for _ in range(recipe.epochs):
            order = torch.randperm(images, generator=self._rng)
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
        some = torch.randperm(len(classes), generator=self._rng)[: self._recipe.batch]
        others, form = self._below(len(classes), len(some)), self._below(len(self._class_texts), len(some))
        doubt = torch.rand(len(some), 1, generator=self._rng) * recipe.blur
        names = normalize((1 - doubt) * classes[some] + doubt * classes[others], dim=-1) * self._recipe.names_scale
        stranger = self._inputs[0, self._below(self._inputs.shape[1], len(some)), : self._features]
        return maps.contrast(
            maps.image(torch.cat([self._seen(stranger, recipe.strangers), names], 1)),
            maps.text(self._dropped(self._class_texts[form, some], self._recipe.text_dropout)),
        )

    def _seen(self, features: Tensor, share: float) -> Tensor:
        """Features under dropout, of this share of the rows; those of the others are the mean's, 0."""
        kept = torch.rand(len(features), 1, generator=self._rng) < share
        return self._dropped(features, self._recipe.image_dropout) * kept

    def _dropped(self, x: Tensor, share: float) -> Tensor:
        """Dropout that draws from our generator."""
        return x * (torch.rand(x.shape, generator=self._rng) >= share) / (1 - share)

    def _below(self, limits: Tensor | int, count: int) -> Tensor:
        """(count,) whole numbers, each from 0 to below its limit."""
        drawn = torch.rand(count, generator=self._rng, dtype=torch.float64) * limits
        return torch.minimum(drawn.long(), torch.as_tensor(limits) - 1)


def _generator(*seed: int) -> torch.Generator:
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def fit_regression_block(views: Views, paired: PairedTexts, recipe: Recipe, block: RegressionRecipe) -> LearnedBlock:
    """Learn the block; nothing in it is random.

    Args:
        views: the images; all views of one count alike.
        paired: what they are paired with.
        recipe: how inputs are scaled.
        block: which dimensions it has, and how strong the penalty is.
    """
    features, names = torch.from_numpy(views.features), torch.from_numpy(views.names)
    scaling = Scaling.of(features[0], recipe)
    inputs = scaling.image(features, names).flatten(0, 1).double().numpy()
    said = np.concatenate([paired.texts, paired.class_texts.reshape(-1, paired.texts.shape[1])])
    whiten, shift = whitening(said, block.whitening)
    texts = paired.texts if block.whitening == 0 else normalise(paired.texts @ whiten.T + shift)
    meant = _mean_captions(texts, paired.owner, views.features.shape[1])
    weight, bias = ridge(inputs, np.tile(meant, (len(views.features), 1)), block.penalty)
    of_features = weight[:, : len(scaling.mean)] / scaling.deviation.numpy()
    of_names = weight[:, len(scaling.mean) :] * scaling.names
    folded = AffinePair(
        image_weight=np.concatenate([of_features, of_names], axis=1).astype(np.float32),
        image_bias=(bias - of_features @ scaling.mean.numpy()).astype(np.float32),
        text_weight=whiten,
        text_bias=shift,
    )
    seen = np.concatenate([views.features[0], views.names[0]], axis=1)
    cut = principal(folded, said, block.dimensions)
    return cut.stored(block.towers, block.share, seen.mean(axis=0), said.mean(axis=0))


def fit_names_block(texts: Floats, names: Floats, share: float, dimensions: int) -> LearnedBlock:
    """The block that compares class names with texts as they are, about the texts' mean.

    Args:
        texts: (M, T) of length 1.
        names: (N, T) class-name vectors of images, in a space that was centred at the same mean.
        share: of the joint similarity.
        dimensions: of its part of a joint vector.
    """
    plain, centre = plain_names(0, texts.shape[1]), texts.mean(axis=0)
    about = AffinePair(plain.image_weight, plain.image_bias, plain.text_weight, -centre)
    return principal(about, texts, dimensions).stored((), share, names.mean(axis=0), centre)


def fit_mixing(first: Floats, second: Floats, towers: tuple[str, str], recipe: SecondTextRecipe) -> Mixing:
    """How two text towers are mixed; `first` (M, T_1) and `second` (M, T_2) are of the same texts, of length 1."""
    weight, bias = ridge(second, first, recipe.penalty)
    return Mixing(
        *(*towers, rounded(weight.astype(np.float32)), rounded(bias.astype(np.float32))),
        *(recipe.slope, recipe.middle, recipe.least, recipe.most),
    )


def ridge(inputs: np.ndarray, outputs: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression: weight (Y, X) and bias (Y,), float64, from (N, X) to (N, Y).

    Args:
        inputs: X numbers each.
        outputs: Y numbers each.
        penalty: beside 1 for the mean variance of an input.
    """
    x = inputs.astype(np.float64)
    alpha = penalty * float(np.square(x - x.mean(axis=0)).sum()) / x.shape[1]
    found = Ridge(alpha, solver="cholesky").fit(x, outputs.astype(np.float64))
    return found.coef_, found.intercept_


def whitening(texts: Floats, power: float) -> tuple[Floats, Floats]:
    """W (T, T) and b (T,) with which W t + b has the variances of texts (M, T) to the power of 1 - 2 `power`.

    With a power of 0 nothing is done, and nothing centred.
    """
    width = texts.shape[1]
    if power == 0:
        return np.eye(width, dtype=np.float32), np.zeros(width, np.float32)
    mean = texts.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((texts - mean).T.astype(np.float64)))
    weight = ((vectors * np.maximum(values, 1e-9) ** -power) @ vectors.T).astype(np.float32)
    return weight, -weight @ mean


def _mean_captions(texts: Floats, owner: npt.NDArray[np.int64], images: int) -> Floats:
    """(N, T): the direction of the mean of each image's captions."""
    total = np.zeros((images, texts.shape[1]))
    np.add.at(total, owner, texts)
    return normalise(total.astype(np.float32))
