"""Which head becomes the default: a rule over cross-validated figures, written down before they were known.

The calibrated cosine stays the default unless the corrected one is better where it counts and worse nowhere:
a curve of two numbers is understood by everybody and cannot surprise anybody.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sceneseek_evaluation.bootstrap import Bootstrap
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.head_recipes import BASELINE, CANDIDATE
from sceneseek_training.study import Choice, Validated


def rule(candidate: str = CANDIDATE) -> str:
    """In words, for cards and reports."""
    return (
        f"The head {candidate!r} becomes the default if, cross-validated by image and caption, its RMSE is lower than "
        f"that of {BASELINE!r} and the 95% interval of the difference (bootstrap by image) leaves out zero, and its "
        f"Spearman correlation and Kendall's tau-c (published protocol) are not lower. Otherwise {BASELINE!r} is."
    )


def choose(
    results: Sequence[Validated], ratings: Ratings, bootstrap: Bootstrap | None = None, candidate: str = CANDIDATE
) -> Choice:
    """Apply the rule; where one of the two heads was not validated, the other (or the first there is) is taken."""
    strict, words = {r.recipe.name: r for r in results if r.grouping == "image and caption"}, rule(candidate)
    if not {BASELINE, candidate} <= set(strict):
        name = next((n for n in (BASELINE, candidate) if n in strict), next(iter(strict)))
        return Choice(name, words, (f"The rule compares two heads, of which only {name!r} or neither was trained.",))
    ours, baseline = strict[candidate], strict[BASELINE]
    better, reasons = _lower_error(ours, baseline, ratings, bootstrap or Bootstrap())
    for key, label in (("spearman", "Spearman"), ("kendall_tau_c", "tau-c")):
        mine, other = (r.agreement.figures[key].value or 0.0 for r in (ours, baseline))
        better &= mine >= other
        reasons.append(f"{label}: {mine:.4f} beside {other:.4f} of {BASELINE!r}.")
    return Choice(candidate if better else BASELINE, words, tuple(reasons))


def _lower_error(
    candidate: Validated, baseline: Validated, ratings: Ratings, bootstrap: Bootstrap
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
