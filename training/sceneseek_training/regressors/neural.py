"""Neural heads: the prototype's network on features, and the default, which corrects the calibrated cosine.

The prototype's network has fully connected layers with batch normalisation, dropout and an L2 penalty. It predicts the
target through a sigmoid and minimises the cross-entropy to targets that need not be 0 or 1. The scaling of its inputs
and the batch normalisation are folded into the stored weights.

The default head is a small network that corrects the logit of the calibrated cosine and reads the joint space only: the
summands of the cosine (of each block, and the image's hubness) and the distribution of the text's cosines with typical
images, so that a text near to all images does not count as a match. It is initialized to the calibrated cosine and
minimises the sum of three losses:

- cross-entropy to expert ratings; with two text towers also to the same ratings as if in another language;
- cross-entropy to crowd labels, through an output of their own that is not served: labels answer another question than
  ratings, but are correlated with them;
- a list-wise loss (Cao et al., Learning to Rank, ICML 2007) over images and the captions written for them: a correction
  that is right on average may still rank a wrong image first.

Several networks from different initial weights are averaged into one wider network.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.nn.utils.fusion import fuse_linear_bn_eval

from sceneseek_export.curves import Calibration
from sceneseek_export.heads import MlpHead
from sceneseek_training import calibration
from sceneseek_training.head_recipes import HeadRecipe
from sceneseek_training.rated import Pairs, Positions, RatedSpace
from sceneseek_training.regressors.classical import similarities
from sceneseek_training.training_split import Columns, TrainingSplit, read_inputs, towers_read


@dataclass(frozen=True)
class NetworkOptions:
    """Widths of the hidden layers, and training parameters."""

    hidden: tuple[int, ...] = (256, 64)
    dropout: float = 0.4
    epochs: int = 40
    batch: int = 256
    rate: float = 2e-3
    penalty: float = 1e-2


def fit_network(recipe: HeadRecipe, split: TrainingSplit, options: NetworkOptions = NetworkOptions()) -> MlpHead:
    """Fit the network; the same seed gives the same weights."""
    inputs, target = read_inputs(recipe, split)
    columns = Columns.of(inputs, split.space.alignment.parts)
    x, y = torch.from_numpy(columns.scale(inputs)), torch.from_numpy(target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(split.seed)
        network = _Mlp(x.shape[1], options)
        _fit_mlp(network, x, y, options)
    (weight, bias), *layers = network.folded()
    return MlpHead(
        calibration=Calibration(0.0, 0.0, "nothing"),
        first=columns.first_layer(weight, bias),
        layers=tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in layers),
        towers=towers_read(recipe, split),
        alignment=split.space.alignment.fingerprint,
    )


class _Mlp(nn.Module):
    """Fully connected layers with batch normalisation."""

    def __init__(self, width: int, options: NetworkOptions) -> None:
        super().__init__()
        widths = (width, *options.hidden)
        self.layers = [(nn.Linear(a, b), nn.BatchNorm1d(b)) for a, b in itertools.pairwise(widths)]
        self.parts = nn.ModuleList(part for layer in self.layers for part in layer)
        self.out, self.drop = nn.Linear(widths[-1], 1), nn.Dropout(options.dropout)

    def forward(self, x: Tensor) -> Tensor:
        for linear, norm in self.layers:
            x = self.drop(torch.relu(norm(linear(x))))
        logits: Tensor = self.out(x)[:, 0]
        return logits

    def folded(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (weight, bias) of each layer, in float64, with batch normalisation folded in."""
        fused = (fuse_linear_bn_eval(linear, norm) for linear, norm in self.layers)
        return [(_numbers(layer.weight), _numbers(layer.bias)) for layer in (*fused, self.out)]


def _fit_mlp(network: _Mlp, x: Tensor, y: Tensor, options: NetworkOptions) -> None:
    steps = -(-len(x) // options.batch)
    weights = [*(linear.weight for linear, _ in network.layers), network.out.weight]
    descent = _Descent(network, weights, options.penalty, options.rate, steps * options.epochs)
    network.train()
    for _ in range(options.epochs):
        for chosen in torch.tensor_split(torch.randperm(len(x)), steps):
            descent.step(binary_cross_entropy_with_logits(network(x[chosen]), y[chosen]))
    network.eval()


class _Descent:
    """AdamW over one cycle of the learning rate, with weight decay on `weights` only."""

    def __init__(self, network: nn.Module, weights: list[Any], penalty: float, rate: float, steps: int) -> None:
        others = [p for p in network.parameters() if all(p is not weight for weight in weights)]
        groups = [{"params": weights, "weight_decay": penalty}, {"params": others, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW(groups, lr=rate)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimiser, rate, total_steps=steps)

    def step(self, loss: Tensor) -> None:
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._optimiser.step()
        self._schedule.step()


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@dataclass(frozen=True)
class CorrectionOptions:
    """The network, and the weights of its losses (that of expert ratings is 1).

    Attributes:
        hidden: width of the hidden layer.
        networks: number of networks to average.
        batch: number of ratings, and of crowd labels, per step.
        unknown_weight: weight of expert ratings as if in another language (see `RatedSpace.as_unknown`).
        crowd_weight: weight of crowd labels with at most `few` rated pairs; with more pairs it decreases as 1/n, since
            ratings are more accurate than labels (docs/explanation/experiments.md).
        lists: weight of the list-wise loss.
        sharpness: factor of the logits in the list-wise softmax.
        images, captions: number of captions per list-wise step, and of images besides the captions' own.
    """

    hidden: int = 32
    networks: int = 3
    dropout: float = 0.3
    steps: int = 150
    batch: int = 768
    rate: float = 5e-3
    penalty: float = 5e-2
    unknown_weight: float = 0.3
    crowd_weight: float = 0.3
    few: int = 150
    lists: float = 0.03
    sharpness: float = 2.0
    images: int = 112
    captions: int = 16


CORRECTION = CorrectionOptions()


def fit_correction(recipe: HeadRecipe, split: TrainingSplit, options: CorrectionOptions | None = None) -> MlpHead:
    """Fit the correction, by default with `CORRECTION`; the same seed gives the same weights."""
    options = options or CORRECTION
    slope, intercept = calibration.fit(*similarities(split))
    curve = Calibration(slope, intercept, "human ratings")
    data = _CorrectionData(recipe, split, curve)
    with torch.random.fork_rng(devices=[]):
        networks = []
        for run in range(options.networks):
            torch.manual_seed(int(np.random.SeedSequence((split.seed, run)).generate_state(1)[0]))
            networks.append(_fit_correction(_CorrectionNetwork(data.experts.x.shape[1], options), data, options))
    weight, bias, last, last_bias = _averaged(networks)
    return MlpHead(
        calibration=curve,
        first=data.columns.first_layer(weight, bias),
        layers=((last.astype(np.float32), last_bias.astype(np.float32)),),
        alignment=split.space.alignment.fingerprint,
    )


@dataclass(frozen=True)
class _Tensors:
    """Scaled inputs (P, C), logits of the baseline (P,) and targets (P,)."""

    x: Tensor
    base: Tensor
    y: Tensor


class _CorrectionData:
    """A split as tensors."""

    def __init__(self, recipe: HeadRecipe, split: TrainingSplit, curve: Calibration) -> None:
        self._curve, self._space = curve, split.space
        unknown = split.space.as_unknown()
        inputs, _ = read_inputs(recipe, split)
        if unknown is not None:
            others, _ = read_inputs(recipe, replace(split, space=unknown))
            inputs = {name: np.concatenate([values, others[name]]) for name, values in inputs.items()}
        self.columns = Columns.of(inputs, split.space.alignment.parts)
        self.experts = self._rated(split.space, split.space.expert, split.expert)
        self.unknown = None if unknown is None else self._rated(unknown, unknown.expert, split.expert)
        self.crowd = self._rated(split.space, split.space.crowd, split.crowd)
        owner = split.space.owner
        own = (owner >= 0) & split.captions
        own[own] = split.images[owner[own]]
        self.captions, self.images = np.flatnonzero(own), np.flatnonzero(split.images)
        self._rng = np.random.default_rng((split.seed, 2))

    def _rated(self, space: RatedSpace, pairs: Pairs, places: Positions) -> _Tensors:
        taken = pairs.take(places)
        inputs = space.inputs(self.columns.widths, taken)
        similarity = space.input("similarity", taken.image, taken.caption)[:, 0]
        return _Tensors(
            torch.from_numpy(self.columns.scale(inputs)),
            torch.from_numpy(self._curve.logit(similarity)),
            torch.from_numpy(taken.target),
        )

    def lists(self, options: CorrectionOptions) -> tuple[Tensor, Tensor, Tensor]:
        """Return scaled inputs (m, n, C), baseline logits (m, n) and the index of each caption's own image (m,)."""
        space, rng = self._space, self._rng
        captions = rng.choice(self.captions, min(options.captions, len(self.captions)), replace=False)
        others = rng.choice(self.images, min(options.images, len(self.images)), replace=False)
        images = np.union1d(space.owner[captions], others)
        shape = (len(captions), len(images))
        inputs = {
            name: space.grid(name, images, captions).reshape(len(captions) * len(images), -1)
            for name in self.columns.widths
        }
        similarity = space.grid("similarity", images, captions)[:, :, 0]
        return (
            torch.from_numpy(self.columns.scale(inputs)).reshape(*shape, -1),
            torch.from_numpy(self._curve.logit(similarity)),
            torch.from_numpy(np.searchsorted(images, space.owner[captions])),
        )


class _CorrectionNetwork(nn.Module):
    """Network from scaled inputs and the baseline's logits to logits of ratings and of crowd labels."""

    def __init__(self, width: int, options: CorrectionOptions) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, options.hidden), nn.Linear(options.hidden, 2)
        self.straight = nn.Linear(width, 1)
        self.drop = nn.Dropout(options.dropout)
        self.slope, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
        # The initial network equals the baseline.
        for layer in (self.out, self.straight):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        out = self.out(self.drop(torch.relu(self.hidden(x))))
        rating = base + self.straight(x)[..., 0] + out[..., 0]
        return rating, self.slope * rating + self.shift + out[..., 1]


def _fit_correction(
    network: _CorrectionNetwork, data: _CorrectionData, options: CorrectionOptions
) -> _CorrectionNetwork:
    weights = [network.hidden.weight, network.out.weight]
    descent = _Descent(network, weights, options.penalty, options.rate, options.steps)
    experts, crowd = data.experts, data.crowd
    weight = options.crowd_weight * min(1.0, options.few / len(experts.y)) if len(crowd.y) else 0.0
    network.train()
    for _ in range(options.steps):
        some = torch.randperm(len(experts.y))[: options.batch]
        loss = binary_cross_entropy_with_logits(network(experts.x[some], experts.base[some])[0], experts.y[some])
        if (unknown := data.unknown) is not None:
            found, _ = network(unknown.x[some], unknown.base[some])
            loss = loss + options.unknown_weight * binary_cross_entropy_with_logits(found, unknown.y[some])
        if weight:
            some = torch.randint(0, len(crowd.y), (min(options.batch, len(crowd.y)),))
            labelled = network(crowd.x[some], crowd.base[some])[1]
            loss = loss + weight * binary_cross_entropy_with_logits(labelled, crowd.y[some])
        if len(data.captions) and len(data.images) > 1 and options.lists:
            x, base, own = data.lists(options)
            loss = loss + options.lists * cross_entropy(options.sharpness * network(x, base)[0], own)
        descent.step(loss)
    return network.eval()


def _averaged(networks: list[_CorrectionNetwork]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean of the networks as one: first weight and bias, last weight and bias, in float64.

    The direct path from inputs to output becomes a pair of units, since relu(a) - relu(-a) = a.
    """
    share = 1 / len(networks)
    straight = share * sum(_numbers(n.straight.weight) for n in networks)
    weight = np.concatenate([*(_numbers(n.hidden.weight) for n in networks), straight, -straight])
    bias = np.concatenate([*(_numbers(n.hidden.bias) for n in networks), [0.0, 0.0]])
    last = np.concatenate([*(share * _numbers(n.out.weight)[0] for n in networks), [1.0, -1.0]])
    constant = share * sum(_numbers(n.out.bias)[0] + _numbers(n.straight.bias)[0] for n in networks)
    return weight, bias, last[None, :], np.array([constant])
