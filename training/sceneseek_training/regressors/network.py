"""The prototype's network: fully connected layers with batch normalisation, dropout and an L2 penalty.

It predicts the target through a sigmoid, by cross-entropy to targets that need not be 0 or 1. What is stored
is the plain network: the scaling of its inputs and the batch normalisation are folded into its weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sceneseek_export.heads import Calibration, MlpHead
from sceneseek_training.folds import Lesson
from sceneseek_training.head_recipes import HeadRecipe
from sceneseek_training.regressors.columns import Columns, read_inputs, towers_read


@dataclass(frozen=True)
class Options:
    """Widths of the hidden layers, and how they are learned."""

    hidden: tuple[int, ...] = (256, 64)
    dropout: float = 0.4
    epochs: int = 40
    batch: int = 256
    rate: float = 2e-3
    penalty: float = 1e-2


def learn_network(recipe: HeadRecipe, lesson: Lesson, options: Options = Options()) -> MlpHead:
    """Learn the network; the same seed gives the same weights."""
    inputs, target = read_inputs(recipe, lesson)
    columns = Columns.of(inputs, lesson.space.alignment.parts)
    x, y = torch.from_numpy(columns.scale(inputs)), torch.from_numpy(target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lesson.seed)
        network = _Network(x.shape[1], options)
        _teach(network, x, y, options)
    (weight, bias), *layers = network.folded()
    return MlpHead(
        calibration=Calibration(0.0, 0.0, "nothing"),
        first=columns.first_layer(weight, bias),
        layers=tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in layers),
        towers=towers_read(recipe, lesson),
        alignment=lesson.space.alignment.fingerprint,
    )


class _Layer(nn.Module):
    """A fully connected layer with batch normalisation."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(width, hidden), nn.BatchNorm1d(hidden)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.linear(x))
        return normalised

    def folded(self) -> tuple[Tensor, Tensor]:
        """(weight, bias), as in evaluation."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None  # noqa: S101 - narrows the type: running figures are kept by default
        assert variance is not None  # noqa: S101
        scale = self.norm.weight / torch.sqrt(variance + self.norm.eps)
        return self.linear.weight * scale[:, None], (self.linear.bias - mean) * scale + self.norm.bias


class _Network(nn.Module):
    def __init__(self, width: int, options: Options) -> None:
        super().__init__()
        widths = (width, *options.hidden)
        self.layers = [_Layer(a, b) for a, b in zip(widths, options.hidden, strict=False)]
        self.out, self.drop = nn.Linear(widths[-1], 1), nn.Dropout(options.dropout)
        for i, layer in enumerate(self.layers):
            self.add_module(f"layer{i}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.drop(torch.relu(layer(x)))
        logits: Tensor = self.out(x)[:, 0]
        return logits

    def folded(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(weight, bias) of each layer, in float64, as in evaluation."""
        layers = [*(layer.folded() for layer in self.layers), (self.out.weight, self.out.bias)]
        return [(w.detach().double().numpy(), b.detach().double().numpy()) for w, b in layers]


def _teach(network: _Network, x: Tensor, y: Tensor, options: Options) -> None:
    weights = [*(layer.linear.weight for layer in network.layers), network.out.weight]
    others = [p for p in network.parameters() if all(p is not weight for weight in weights)]
    groups = [{"params": weights, "weight_decay": options.penalty}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.rate)
    steps = -(-len(x) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, total_steps=steps * options.epochs)
    network.train()
    for _ in range(options.epochs):
        for chosen in torch.tensor_split(torch.randperm(len(x)), steps):
            loss = binary_cross_entropy_with_logits(network(x[chosen]), y[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimiser.step()
            schedule.step()
    network.eval()
