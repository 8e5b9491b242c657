"""The default head: a small network that corrects the calibrated cosine's logit, on the joint space alone.

It reads what the cosine is made of (each block's own, the image's hubness) and how the text's cosines with
typical images lie, so a text that is near to everything is not taken for a match. It begins as the calibrated
cosine and learns from three things at once:

- the experts' ratings, by cross-entropy to the target;
- the crowd's votes, through an output of their own that is not served: a vote is another question than a
  rating, but what moves the one moves the other;
- which image a caption was written for, among the lesson's images: a correction that is right on average may
  still put a wrong image first, and a list-wise loss (Cao et al., Learning to Rank, ICML 2007) notices.

Several networks from different beginnings are averaged, which is one wider network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from sceneseek_export.heads import Calibration, MlpHead
from sceneseek_training import calibration
from sceneseek_training.folds import Lesson
from sceneseek_training.head_recipes import HeadRecipe
from sceneseek_training.rated import Pairs, Positions
from sceneseek_training.regressors.columns import Columns, read_inputs
from sceneseek_training.regressors.curves import similarities


@dataclass(frozen=True)
class Options:
    """The network, and the weights of its three lessons (the experts' is 1).

    Attributes:
        hidden: width.
        networks: how many are averaged.
        batch: how many ratings, and votes, a step looks at.
        votes: the votes' weight where there are at most `few` rated pairs; with more it falls as 1/n, since
            ratings then say better themselves what votes only hint at (docs/explanation/experiments.md).
        lists: the list-wise weight.
        sharpness: of the list-wise softmax, times the logits.
        images, captions: how many images, beside the captions' own, and captions a list-wise step looks at.
    """

    hidden: int = 32
    networks: int = 3
    dropout: float = 0.3
    steps: int = 150
    batch: int = 768
    rate: float = 5e-3
    penalty: float = 5e-2
    votes: float = 0.3
    few: int = 150
    lists: float = 0.03
    sharpness: float = 2.0
    images: int = 112
    captions: int = 16


def learn_correction(recipe: HeadRecipe, lesson: Lesson, options: Options = Options()) -> MlpHead:
    """Learn the correction; the same seed gives the same weights."""
    similarity, target = similarities(lesson)
    slope, intercept = calibration.fit(similarity, target)
    curve = Calibration(slope, intercept, "human ratings")
    inputs, _ = read_inputs(recipe, lesson)
    columns = Columns.of(inputs, lesson.space.alignment.parts)
    data = _Data(recipe, lesson, columns, curve)
    with torch.random.fork_rng(devices=[]):
        networks = []
        for run in range(options.networks):
            torch.manual_seed(int(np.random.SeedSequence((lesson.seed, run)).generate_state(1)[0]))
            networks.append(_teach(_Network(data.experts.x.shape[1], options), data, options))
    weight, bias, last, last_bias = _averaged(networks)
    return MlpHead(
        calibration=curve,
        first=columns.first_layer(weight, bias),
        layers=((last.astype(np.float32), last_bias.astype(np.float32)),),
        alignment=lesson.space.alignment.fingerprint,
    )


@dataclass(frozen=True)
class _Rated:
    """Scaled inputs (P, C), the baseline's logits (P,), targets (P,)."""

    x: Tensor
    base: Tensor
    y: Tensor


class _Data:
    """A lesson as tensors."""

    def __init__(self, recipe: HeadRecipe, lesson: Lesson, columns: Columns, curve: Calibration) -> None:
        self._columns, self._curve, self._recipe, self._space = columns, curve, recipe, lesson.space
        self.experts = self._rated(lesson.space.expert, lesson.expert)
        self.votes = self._rated(lesson.space.votes, lesson.votes)
        owner = lesson.space.owner
        own = (owner >= 0) & lesson.captions
        own[own] = lesson.images[owner[own]]
        self.captions, self.images = np.flatnonzero(own), np.flatnonzero(lesson.images)
        self._dice = np.random.default_rng((lesson.seed, 2))

    def _rated(self, pairs: Pairs, places: Positions) -> _Rated:
        taken = pairs.take(places)
        inputs = self._space.inputs(self._columns.widths, taken)
        similarity = self._space.input("similarity", taken.image, taken.caption)[:, 0]
        return _Rated(
            torch.from_numpy(self._columns.scale(inputs)),
            torch.from_numpy(self._curve.logit(similarity)),
            torch.from_numpy(taken.target),
        )

    def lists(self, options: Options) -> tuple[Tensor, Tensor, Tensor]:
        """(m, n, C) scaled inputs, (m, n) baselines and (m,) the place of each caption's own image."""
        space, dice = self._space, self._dice
        captions = dice.choice(self.captions, min(options.captions, len(self.captions)), replace=False)
        others = dice.choice(self.images, min(options.images, len(self.images)), replace=False)
        images = np.union1d(space.owner[captions], others)
        shape = (len(captions), len(images))
        inputs = {
            name: space.grid(name, images, captions).reshape(len(captions) * len(images), -1)
            for name in self._columns.widths
        }
        similarity = space.grid("similarity", images, captions)[:, :, 0]
        return (
            torch.from_numpy(self._columns.scale(inputs)).reshape(*shape, -1),
            torch.from_numpy(self._curve.logit(similarity)),
            torch.from_numpy(np.searchsorted(images, space.owner[captions])),
        )


class _Network(nn.Module):
    """Scaled inputs and a baseline's logits to the ratings' logits and the votes'."""

    def __init__(self, width: int, options: Options) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, options.hidden), nn.Linear(options.hidden, 2)
        self.straight = nn.Linear(width, 1)
        self.drop = nn.Dropout(options.dropout)
        self.slope, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
        # It begins as the baseline.
        for layer in (self.out, self.straight):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        out = self.out(self.drop(torch.relu(self.hidden(x))))
        rating = base + self.straight(x)[..., 0] + out[..., 0]
        return rating, self.slope * rating + self.shift + out[..., 1]


def _teach(network: _Network, data: _Data, options: Options) -> _Network:
    weights = [network.hidden.weight, network.out.weight]
    others = [p for p in network.parameters() if all(p is not weight for weight in weights)]
    groups = [{"params": weights, "weight_decay": options.penalty}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, total_steps=options.steps)
    experts, votes = data.experts, data.votes
    voting = options.votes * min(1.0, options.few / len(experts.y)) if len(votes.y) else 0.0
    network.train()
    for _ in range(options.steps):
        some = torch.randperm(len(experts.y))[: options.batch]
        loss = binary_cross_entropy_with_logits(network(experts.x[some], experts.base[some])[0], experts.y[some])
        if voting:
            some = torch.randint(0, len(votes.y), (min(options.batch, len(votes.y)),))
            voted = network(votes.x[some], votes.base[some])[1]
            loss = loss + voting * binary_cross_entropy_with_logits(voted, votes.y[some])
        if len(data.captions) and len(data.images) > 1 and options.lists:
            x, base, own = data.lists(options)
            loss = loss + options.lists * cross_entropy(options.sharpness * network(x, base)[0], own)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        schedule.step()
    return network.eval()


def _averaged(networks: list[_Network]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The mean of the networks' corrections as one: first weight and bias, last weight and bias, in float64.

    What goes straight from inputs to output goes through a pair of units, since relu(a) - relu(-a) = a.
    """

    def numbers(tensor: Tensor) -> np.ndarray:
        return tensor.detach().double().numpy()

    share = 1 / len(networks)
    straight = share * sum(numbers(n.straight.weight) for n in networks)
    weight = np.concatenate([*(numbers(n.hidden.weight) for n in networks), straight, -straight])
    bias = np.concatenate([*(numbers(n.hidden.bias) for n in networks), [0.0, 0.0]])
    last = np.concatenate([*(share * numbers(n.out.weight)[0] for n in networks), [1.0, -1.0]])
    constant = share * sum(numbers(n.out.bias)[0] + numbers(n.straight.bias)[0] for n in networks)
    return weight, bias, last[None, :], np.array([constant])
