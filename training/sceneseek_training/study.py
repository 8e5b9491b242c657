"""What a cross-validation of heads found: the data that the report, the cards and the choice of the default read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sceneseek.vectors import Floats
from sceneseek_evaluation.agreement import Agreement
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.head_recipes import HeadRecipe

Grouping = Literal["image", "image and caption"]
GROUPINGS: tuple[Grouping, ...] = ("image", "image and caption")


@dataclass(frozen=True)
class Validated:
    """One head under one grouping.

    Attributes:
        recipe: which.
        grouping: what no training pair shares with a test pair.
        predicted: (P,) in [0, 1], each by a head that had not seen the pair's group.
        agreement: with the ratings, all P pairs.
        trained_on: how many expert pairs a fold had to learn from, on average.
        seconds: of all its folds.
    """

    recipe: HeadRecipe
    grouping: Grouping
    predicted: Floats
    agreement: Agreement
    trained_on: float
    seconds: float


@dataclass(frozen=True)
class LearningPoint:
    """A head that learned from a part of the ratings, grouped by image and caption.

    Attributes:
        head: the recipe's name.
        pairs: how many expert pairs a fold had to learn from, on average.
        rmse, spearman, tau_c: of all pairs; tau_c in the published protocol.
    """

    head: str
    pairs: float
    rmse: float
    spearman: float
    tau_c: float


@dataclass(frozen=True)
class Choice:
    """Which head becomes the default.

    Attributes:
        name: the recipe's name.
        rule: in words, as it was written down before.
        reasons: what was compared, a sentence each.
    """

    name: str
    rule: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A whole run of `sceneseek train heads`.

    Attributes:
        ratings: the expert ratings, P pairs.
        votes: the crowd's, or None.
        results: every head under every grouping.
        learning: learning curves.
        choice: the default.
        about: what was trained on what, and how: JSON values for people (pack, joint space, data, seed, folds,
            command, versions, seconds).
    """

    ratings: Ratings
    votes: Ratings | None
    results: tuple[Validated, ...]
    learning: tuple[LearningPoint, ...]
    choice: Choice
    about: Mapping[str, Any]

    def of(self, name: str, grouping: Grouping) -> Validated:
        """The result of a head under a grouping."""
        return next(r for r in self.results if (r.recipe.name, r.grouping) == (name, grouping))

    def gaps(self, name: str, grouping: Grouping) -> npt.NDArray[np.float32]:
        """(P,) predicted minus rated."""
        gap: Floats = self.of(name, grouping).predicted - self.ratings.target
        return gap
