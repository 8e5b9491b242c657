"""Select the default head by a rule over cross-validated figures that was fixed before they were known.

The calibrated cosine is the default unless the candidate has a lower error and no worse rank correlation: a curve with
two parameters is easy to understand and predictable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sceneseek_evaluation.figures import BOOTSTRAP, Bootstrap
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.cross_validation import Grouping, HeadResult, LearningPoint
from sceneseek_training.head_recipes import BASELINE, CANDIDATE


@dataclass(frozen=True)
class ModelSelection:
    """The selected default head.

    Attributes:
        name: the recipe's name.
        rule: the rule, in words.
        reasons: the comparisons, one sentence each.
    """

    name: str
    rule: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class HeadComparison:
    """The result of `sceneseek train heads`.

    Attributes:
        ratings: the expert ratings, P pairs.
        crowd: the crowd labels, or None.
        results: every head under every grouping.
        learning_curves: the points of the learning curves.
        selection: the default head.
        about: provenance as readable JSON values (pack, joint space, data, seed, folds, command, versions, seconds).
    """

    ratings: Ratings
    crowd: Ratings | None
    results: tuple[HeadResult, ...]
    learning_curves: tuple[LearningPoint, ...]
    selection: ModelSelection
    about: Mapping[str, Any]

    def of(self, name: str, grouping: Grouping) -> HeadResult:
        """Return the result of a head under a grouping."""
        return next(r for r in self.results if (r.recipe.name, r.grouping) == (name, grouping))


def selection_rule(candidate: str = CANDIDATE) -> str:
    """Return the rule in words, for cards and reports."""
    return (
        f"The head {candidate!r} becomes the default if, cross-validated by image and caption, its RMSE is lower than "
        f"that of {BASELINE!r} and the 95% interval of the difference (bootstrap by image) leaves out zero, and its "
        f"Spearman correlation and Kendall's tau-c (published protocol) are not lower. Otherwise {BASELINE!r} is."
    )


def select_head(
    results: Sequence[HeadResult], ratings: Ratings, bootstrap: Bootstrap = BOOTSTRAP, candidate: str = CANDIDATE
) -> ModelSelection:
    """Apply the rule; if one of the two heads was not validated, select the other, or else the first head."""
    words = selection_rule(candidate)
    strict = {r.recipe.name: r for r in results if r.grouping == "image and caption"}
    if not {BASELINE, candidate} <= set(strict):
        name = next((n for n in (BASELINE, candidate) if n in strict), next(iter(strict)))
        return ModelSelection(
            name, words, (f"The rule compares two heads, of which only {name!r} or neither was trained.",)
        )
    ours, baseline = strict[candidate], strict[BASELINE]
    better, reasons = _lower_error(ours, baseline, ratings, bootstrap)
    for key, label in (("spearman", "Spearman"), ("kendall_tau_c", "tau-c")):
        mine, other = (r.agreement.figures[key].value or 0.0 for r in (ours, baseline))
        better &= mine >= other
        reasons.append(f"{label}: {mine:.4f}, against {other:.4f} of {BASELINE!r}.")
    return ModelSelection(candidate if better else BASELINE, words, tuple(reasons))


def _lower_error(
    candidate: HeadResult, baseline: HeadResult, ratings: Ratings, bootstrap: Bootstrap
) -> tuple[bool, list[str]]:
    errors = [(r.predicted.astype(np.float64) - ratings.target) ** 2 for r in (candidate, baseline)]

    def difference(rows: np.ndarray) -> dict[str, float]:
        mine, other = (float(np.sqrt(error[rows].mean())) for error in errors)
        return {"difference": mine - other}

    everything = np.arange(len(ratings))
    found = bootstrap.figures(difference(everything), difference, ratings.image)["difference"]
    high = found.high if found.high is not None else 0.0
    interval = "no interval" if found.low is None else f"95% interval {found.low:+.4f} to {high:+.4f}"
    sentence = f"RMSE: {found.value or 0:+.4f} from {BASELINE!r} to {candidate.recipe.name!r}, {interval}."
    return (found.value or 0) < 0 and high < 0, [sentence]
