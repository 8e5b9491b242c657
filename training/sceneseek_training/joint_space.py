"""Train the affine maps of a joint space from images, captions and class names.

Contrastive blocks minimise the symmetric contrastive loss (InfoNCE: van den Oord et al. 2018; both directions as in
CLIP, Radford et al. 2021) over batches of images with one of their captions each, and over batches of classes without
images: the class's embedding replaces the image, its name in some form the caption. A block is trained several times
from different initial weights; the maps are concatenated, with the class names themselves, and projected onto their
principal directions (see `affine`). The stored maps take the towers' outputs.

The regression block is ridge regression (Hoerl and Kennard, Technometrics 12, 1970, in closed form) from an image to
the mean of its captions' vectors. The contrastive loss distinguishes an image's own caption from others, but not how
wrong the others are. Human raters do: a picture of a dog matches a text about a cat a little. Distances between texts
reflect this, so this block maps an image to the position of its captions among texts. Its text map consists of the
texts' principal directions.

All randomness comes from seeded generators: the same inputs give the same weights on the same machine with the same
number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from sceneseek.vectors import Floats
from sceneseek_export.alignment_maps import ClassNames, LearnedBlock, Mixing, normalise, rounded
from sceneseek_training.affine import AffinePair, Whitening, plain_names, principal, side_by_side
from sceneseek_training.recipe import BlockRecipe, MixingRecipe, NamesRecipe, Recipe, RegressionRecipe

# A feature that varies less, relative to its size, counts as constant: its mean divided by its deviation would be so
# large that the other features are lost to float16 rounding.
_MIN_VARIATION = 1e-3


@dataclass(frozen=True)
class Scaling:
    """Scaling of inputs: features by their `mean` and `deviation` (F,), class names and texts by a factor."""

    mean: Tensor
    deviation: Tensor
    names: float
    text: float

    @classmethod
    def of(cls, features: Tensor, recipe: Recipe) -> Scaling:
        """Return the scaling of features (N, F) to mean 0 and deviation 1; constant features become 0."""
        mean, deviation = features.mean(0), features.std(0)
        constant = deviation <= _MIN_VARIATION * features.square().mean(0).sqrt()
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
        """Initialize class names and texts with the same rotation, so that they are comparable from the start."""
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
class BlockData:
    """The training data of one text tower's blocks: outputs of the towers.

    Attributes:
        features: (V, N, F), the concatenated features of the images in V views (unchanged, mirrored).
        names: (V, N, T) class-name vectors of length 1, or (V, N, 0).
        texts: (M, T) of length 1.
        owner: (M,) ascending: the image of each text; every image has at least one.
        class_names: the class-name block, or None.
        class_texts: (forms, C, T) of length 1: the captions of classes; empty without names.
        power: power of the whitening, see there.
    """

    features: Floats
    names: Floats
    texts: Floats
    owner: npt.NDArray[np.int64]
    class_names: ClassNames | None
    class_texts: Floats
    power: float = 0.0

    @cached_property
    def whitening(self) -> Whitening:
        """The whitening of the texts and the class names."""
        return Whitening.of(self.all_texts, self.names[0], self.power)

    @property
    def whitened(self) -> BlockData:
        """The data after whitening, to train on."""
        known, whitening = self.class_names, self.whitening
        return replace(
            self,
            names=whitening.names(self.names),
            texts=whitening.texts(self.texts),
            class_names=known and replace(known, embeddings=whitening.names(known.embeddings)),
            class_texts=whitening.texts(self.class_texts),
        )

    @property
    def all_texts(self) -> Floats:
        """(M + forms x C, T): captions of images and of classes."""
        return np.concatenate([self.texts, self.class_texts.reshape(-1, self.texts.shape[1])])

    @property
    def image_inputs(self) -> Floats:
        """(N, F + T): the image maps' inputs."""
        return np.concatenate([self.features[0], self.names[0]], axis=1)

    def stored(self, pair: AffinePair, block: BlockRecipe | RegressionRecipe) -> LearnedBlock:
        """Return the pair, which takes the towers' outputs, as a block reduced to its dimensions."""
        reduced = principal(pair, self.all_texts, block.dimensions)
        return reduced.stored(block.towers, block.share, self.image_inputs.mean(axis=0), self.all_texts.mean(axis=0))


def fit_block(
    data: BlockData,
    recipe: Recipe,
    block: BlockRecipe,
    seed: tuple[int, ...],
    advance: Callable[[], None] = lambda: None,
) -> LearnedBlock:
    """Train one contrastive block of a recipe; `seed` seeds all randomness.

    `advance` is called after each epoch of each run.
    """
    whitened = data.whitened
    features, names = torch.from_numpy(whitened.features), torch.from_numpy(whitened.names)
    width, pairs, shares = features.shape[2], [], []
    of_names = block.names_share if recipe.names is not None else 0.0
    if block.runs:
        scaling = Scaling.of(features[0], recipe)
        inputs = scaling.image(features, names)
    for run in range(block.runs):
        rng = _generator(*seed, run)
        start = Maps.first(width, whitened.texts.shape[1], block, recipe, rng)
        learned = _Run(inputs, width, whitened, recipe, rng).learn(start, advance).folded(scaling)
        pairs.append(data.whitening.before(learned))
        shares.append((1 - of_names) / block.runs)
    if of_names:
        pairs.append(plain_names(width, data.whitening.centre))
        shares.append(of_names)
    return data.stored(side_by_side(pairs, shares, data.image_inputs, data.texts), block)


class _Run:
    """One training run over scaled inputs (V, N, F + T)."""

    def __init__(self, inputs: Tensor, features: int, data: BlockData, recipe: Recipe, rng: torch.Generator) -> None:
        self._inputs, self._features, self._recipe, self._rng = inputs, features, recipe, rng
        self._texts = torch.from_numpy(data.texts) * recipe.text_scale
        owner = torch.from_numpy(data.owner)
        self._count = torch.bincount(owner, minlength=inputs.shape[1])
        self._first = self._count.cumsum(0) - self._count
        self._class_texts = torch.from_numpy(data.class_texts) * recipe.text_scale
        self._classes = None if data.class_names is None else torch.from_numpy(data.class_names.embeddings)

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
        """The loss of images, each paired with one of its captions."""
        x = self._inputs[self._below(len(self._inputs), len(chosen)), chosen]
        caption = self._first[chosen] + self._below(self._count[chosen], len(chosen))
        features = self._seen(x[:, : self._features], 1 - self._recipe.blind)
        return maps.contrast(
            maps.image(torch.cat([features, x[:, self._features :]], 1)),
            maps.text(self._dropped(self._texts[caption], self._recipe.text_dropout)),
        )

    def _named(self, maps: Maps, classes: Tensor, recipe: NamesRecipe) -> Tensor:
        """The loss of classes, each paired with its name: no or random features, and the class's blurred embedding."""
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
        """Features with dropout for this share of the rows; 0, the mean, for the others."""
        kept = torch.rand(len(features), 1, generator=self._rng) < share
        return self._dropped(features, self._recipe.image_dropout) * kept

    def _dropped(self, x: Tensor, share: float) -> Tensor:
        """Dropout with the run's own generator."""
        return x * (torch.rand(x.shape, generator=self._rng) >= share) / (1 - share)

    def _below(self, limits: Tensor | int, count: int) -> Tensor:
        """Random integers (count,), each from 0 to below its limit."""
        drawn = torch.rand(count, generator=self._rng, dtype=torch.float64) * limits
        return torch.minimum(drawn.long(), torch.as_tensor(limits) - 1)


def _generator(*seed: int) -> torch.Generator:
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def fit_regression_block(data: BlockData, recipe: Recipe, block: RegressionRecipe) -> LearnedBlock:
    """Train the regression block; it is deterministic, and all views of an image have the same weight."""
    whitened = data.whitened
    features, names = torch.from_numpy(whitened.features), torch.from_numpy(whitened.names)
    scaling = Scaling.of(features[0], recipe)
    inputs = scaling.image(features, names).flatten(0, 1).double().numpy()
    targets = _mean_captions(whitened.texts, whitened.owner, features.shape[1])
    weight, bias = ridge(inputs, np.tile(targets, (len(features), 1)), block.penalty)
    of_features = weight[:, : len(scaling.mean)] / scaling.deviation.numpy()
    of_names = weight[:, len(scaling.mean) :] * scaling.names
    texts = whitened.texts.shape[1]
    folded = AffinePair(
        image_weight=np.concatenate([of_features, of_names], axis=1).astype(np.float32),
        image_bias=(bias - of_features @ scaling.mean.numpy()).astype(np.float32),
        text_weight=np.eye(texts, dtype=np.float32),
        text_bias=np.zeros(texts, np.float32),
    )
    return data.stored(data.whitening.before(folded), block)


def fit_mixing(towers: tuple[str, str], first: Floats, second: Floats, recipe: MixingRecipe) -> Mixing:
    """Fit the mixing of spaces to the same texts by both towers, (M, T_1) and (M, T_2) of length 1."""
    weight, bias = (rounded(found.astype(np.float32)) for found in ridge(second, first, recipe.penalty))
    return Mixing(*towers, weight, bias, recipe.slope, recipe.middle, recipe.known, recipe.unknown)


def ridge(inputs: np.ndarray, outputs: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit a ridge regression from (N, X) to (N, Y); return weight (Y, X) and bias (Y,), float64.

    The penalty is relative to the mean variance of an input.
    """
    x = inputs.astype(np.float64)
    alpha = penalty * float(np.square(x - x.mean(axis=0)).sum()) / x.shape[1]
    fitted = Ridge(alpha, solver="cholesky").fit(x, outputs.astype(np.float64))
    return fitted.coef_, fitted.intercept_


def _mean_captions(texts: Floats, owner: npt.NDArray[np.int64], images: int) -> Floats:
    """(N, T): the direction of the mean of each image's captions."""
    total = np.zeros((images, texts.shape[1]))
    np.add.at(total, owner, texts)
    return normalise(total.astype(np.float32))
