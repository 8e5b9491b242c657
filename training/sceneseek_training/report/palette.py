"""The colours of a report, by role, on a light and on a dark page; and how each head is drawn.

The lines' colours follow Okabe and Ito (Color Universal Design, 2008), darkened or lightened until they stand
out from their page. Nobody needs to tell them apart by colour alone: each regressor has its marker too, heads
on the prototype's inputs are dashed, and lines are labelled where they end.
"""

from __future__ import annotations

from dataclasses import dataclass

from sceneseek_training.head_recipes import PROTOTYPE, HeadRecipe, Regressor


@dataclass(frozen=True, slots=True)
class Colour:
    """A role's colour on either page. No two roles share the light one: in plots it stands for the role."""

    light: str
    dark: str


COLOURS = {
    "page": Colour("#fefefe", "#15181c"),
    "panel": Colour("#f4f6f8", "#1e2328"),
    "mark": Colour("#e3eefa", "#20344a"),
    "rule": Colour("#d5dae0", "#3a4149"),
    "quiet": Colour("#586069", "#a3acb6"),
    "ink": Colour("#1b1f24", "#e8ebee"),
    "blue": Colour("#0a65ad", "#62b2f4"),
    "purple": Colour("#a03c78", "#e39ac4"),
    "green": Colour("#00785a", "#34c79f"),
    "sky": Colour("#2b87b8", "#9ad7f5"),
    "orange": Colour("#bd6a00", "#f2a93b"),
    "olive": Colour("#857a00", "#e4da59"),
    "red": Colour("#bf3f0c", "#f58a5c"),
    "grey": Colour("#70777f", "#939ca6"),
}

_LINES: dict[Regressor, tuple[str, str]] = {
    "constant": ("grey", "x"),
    "logistic": ("orange", "s"),
    "isotonic": ("olive", "D"),
    "least squares": ("red", "v"),
    "ridge": ("sky", "<"),
    "catboost": ("green", "^"),
    "network": ("purple", "P"),
    "correction": ("blue", "o"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """How a head is drawn: colour by role, marker, and whether its line is dashed."""

    colour: str
    marker: str
    dashed: bool


def line_of(recipe: HeadRecipe) -> Line:
    """How a head is drawn in every plot."""
    return Line(*_LINES[recipe.regressor], dashed=recipe.inputs == PROTOTYPE)
