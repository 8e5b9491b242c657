"""Learning curves: what more ratings bring, a line a head; and which lines a plot should leave off its axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sceneseek_training.head_recipes import RECIPES, HeadRecipe
from sceneseek_training.report.measures import RMSE, TAU_C, Measure
from sceneseek_training.study import LearningPoint


@dataclass(frozen=True, slots=True)
class Curve:
    """A head's values of one measure over the number of pairs that it learned from, from few to many."""

    recipe: HeadRecipe
    pairs: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """All heads' curves of one measure.

    Attributes:
        measure: which.
        curves: those that end on the axis.
        bound: where the axis ends on its bad side; None where it need not end.
        off: the names of the heads that end beyond it. One that is far worse than all others would leave these
            no room to differ in.
    """

    measure: Measure
    curves: tuple[Curve, ...]
    bound: float | None
    off: tuple[str, ...]


def errors(points: Iterable[LearningPoint], constant: float | None) -> Curves:
    """RMSE, up to a little above that of knowing nothing."""
    curves = _curves(points, lambda point: point.rmse)
    return _bounded(RMSE, curves, 1.1 * constant if constant else None)


def ranks(points: Iterable[LearningPoint]) -> Curves:
    """Tau-c, from half of the best."""
    curves = _curves(points, lambda point: point.tau_c)
    best = max((value for curve in curves for value in curve.values), default=0)
    return _bounded(TAU_C, curves, best / 2 if best > 0 else None)


def _curves(points: Iterable[LearningPoint], value: Callable[[LearningPoint], float]) -> list[Curve]:
    found: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        if math.isfinite(value(point)):
            found.setdefault(point.head, []).append((point.pairs, value(point)))
    return [_curve(RECIPES[name], sorted(places)) for name, places in found.items()]


def _curve(recipe: HeadRecipe, places: list[tuple[float, float]]) -> Curve:
    return Curve(recipe, tuple(pairs for pairs, _ in places), tuple(value for _, value in places))


def _bounded(measure: Measure, curves: list[Curve], bound: float | None) -> Curves:
    def ends_on_axis(curve: Curve) -> bool:
        if bound is None:
            return True
        return curve.values[-1] <= bound if measure.lower_is_better else curve.values[-1] >= bound

    on = tuple(filter(ends_on_axis, curves))
    return Curves(measure, on, bound, tuple(curve.recipe.name for curve in curves if curve not in on))
