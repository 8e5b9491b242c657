"""Recipes of the heads to train and compare: regressors over inputs, as data.

`PROTOTYPE` inputs are those of the research prototype, [image, text]; `OURS` add the joint space. The input ``parts``
(the summands of a cosine, `sceneseek_export.alignment.Alignment.parts`) exists in training only: in a head it is folded
into the weights of ``product``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sceneseek.errors import InvalidRequest
from sceneseek_export.packs import Pack

Regressor = Literal["constant", "logistic", "isotonic", "least squares", "ridge", "catboost", "network", "correction"]

PROTOTYPE = ("image", "text")
OURS = ("similarity", "parts", "product", "image", "text", "spread")
JOINT = ("parts", "spread")


@dataclass(frozen=True)
class HeadRecipe:
    """The recipe of one head.

    Attributes:
        name: name in reports, and of its directory.
        regressor: the kind of regressor.
        inputs: the inputs that it reads: those of `sceneseek_export.heads`, and ``parts``.
        about: one-line description.
    """

    name: str
    regressor: Regressor
    inputs: tuple[str, ...]
    about: str


RECIPES = {
    recipe.name: recipe
    for recipe in (
        HeadRecipe("constant", "constant", (), "the mean rating, for every pair"),
        HeadRecipe("cosine", "logistic", ("similarity",), "joint-space cosine through a logistic curve"),
        HeadRecipe("cosine-isotonic", "isotonic", ("similarity",), "joint-space cosine through isotonic steps"),
        HeadRecipe(
            "prototype-linear", "least squares", PROTOTYPE, "LinearRegression on [image, text], as in the prototype"
        ),
        HeadRecipe("prototype-ridge", "ridge", PROTOTYPE, "standardised ridge on [image, text]"),
        HeadRecipe("prototype-catboost", "catboost", PROTOTYPE, "CatBoost on [image, text], as in the prototype"),
        HeadRecipe("prototype-mlp", "network", PROTOTYPE, "MLP on [image, text], as in the prototype"),
        HeadRecipe("linear", "ridge", OURS, "standardised ridge on the joint space and the raw features"),
        HeadRecipe("catboost", "catboost", OURS, "CatBoost on the joint space and the raw features"),
        HeadRecipe("mlp-features", "network", OURS, "MLP on the joint space and the raw features"),
        HeadRecipe("mlp", "correction", JOINT, "MLP that corrects the calibrated cosine, on the joint space alone"),
    )
}
BASELINE, CANDIDATE = "cosine", "mlp"
# The candidate for packs with towers that only a head reads.
FEATURES_CANDIDATE = "mlp-features"


def candidate_for(pack: Pack) -> str:
    """Return the name of the recipe that becomes a pack's default head if it is better than `BASELINE`."""
    return FEATURES_CANDIDATE if pack.needs_head else CANDIDATE


def find_recipe(name: str) -> HeadRecipe:
    """Return the recipe of that name.

    Raises:
        InvalidRequest: the name is unknown; the message lists all names.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise InvalidRequest(f"unknown head {name!r}", f"choose from {', '.join(RECIPES)}") from None
