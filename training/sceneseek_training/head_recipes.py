"""Which heads are trained and compared: regressors over inputs, as data.

`PROTOTYPE` inputs are those of the research prototype, [image, text]; ours add the joint space. The input
``parts`` (what a cosine is made of, `sceneseek_export.alignment.Alignment.parts`) is training's: in a head it is
folded into the weights of ``product``.
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
    """One head.

    Attributes:
        name: in reports, and of its directory.
        regressor: what learns.
        inputs: what it reads, see `sceneseek_export.heads`, and ``parts``.
        about: a line for people.
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
# Of a pack with towers that only a head reads.
FEATURES_CANDIDATE = "mlp-features"


def candidate_for(pack: Pack) -> str:
    """The recipe that is to become a pack's default head, if it is better than `BASELINE`."""
    return FEATURES_CANDIDATE if pack.needs_head else CANDIDATE


def find_recipe(name: str) -> HeadRecipe:
    """The recipe of that name.

    Raises:
        InvalidRequest: there is none; the message lists those there are.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise InvalidRequest(f"unknown head {name!r}", f"choose among {', '.join(RECIPES)}") from None
