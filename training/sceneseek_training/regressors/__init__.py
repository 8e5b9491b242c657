"""The regressors: from a `TrainingSplit` to a head.

Cross-validation predicts with the resulting heads themselves, so it measures what is served.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sceneseek_export.heads import Head
from sceneseek_training.head_recipes import HeadRecipe, Regressor
from sceneseek_training.regressors.classical import (
    fit_constant,
    fit_isotonic,
    fit_least_squares,
    fit_logistic,
    fit_ridge,
    fit_trees,
)
from sceneseek_training.regressors.neural import fit_correction, fit_network
from sceneseek_training.training_split import TrainingSplit

_FIT: dict[Regressor, Callable[[HeadRecipe, TrainingSplit], Head]] = {
    "constant": fit_constant,
    "logistic": fit_logistic,
    "isotonic": fit_isotonic,
    "least squares": fit_least_squares,
    "ridge": fit_ridge,
    "catboost": fit_trees,
    "network": fit_network,
    "correction": fit_correction,
}


def fit_head(recipe: HeadRecipe, split: TrainingSplit) -> Head:
    """Fit a head; the same split gives the same head on the same machine.

    Raises:
        DataError: the split cannot be trained on.
    """
    threads = torch.get_num_threads()
    # With such small matrices, several threads mostly wait for each other: twenty times slower on two cores.
    torch.set_num_threads(1)
    try:
        return _FIT[recipe.regressor](recipe, split)
    finally:
        torch.set_num_threads(threads)
