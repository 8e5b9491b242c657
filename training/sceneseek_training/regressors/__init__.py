"""The regressors: from a `Lesson` to a head that serves. Each module teaches one kind.

What is learned is at once what is served: a fold's predictions come from the head itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sceneseek_export.heads import Head
from sceneseek_training.folds import Lesson
from sceneseek_training.head_recipes import HeadRecipe, Regressor
from sceneseek_training.regressors.correction import learn_correction
from sceneseek_training.regressors.curves import learn_constant, learn_isotonic, learn_logistic
from sceneseek_training.regressors.linear import learn_least_squares, learn_ridge
from sceneseek_training.regressors.network import learn_network
from sceneseek_training.regressors.trees import learn_trees

_LEARN: dict[Regressor, Callable[[HeadRecipe, Lesson], Head]] = {
    "constant": learn_constant,
    "logistic": learn_logistic,
    "isotonic": learn_isotonic,
    "least squares": learn_least_squares,
    "ridge": learn_ridge,
    "catboost": learn_trees,
    "network": learn_network,
    "correction": learn_correction,
}


def learn_head(recipe: HeadRecipe, lesson: Lesson) -> Head:
    """Learn a head; the same lesson gives the same head on the same machine.

    Raises:
        DataError: nothing can be learned from the lesson.
    """
    threads = torch.get_num_threads()
    # Matrices this small only wait for each other on several threads: twenty times slower on two cores.
    torch.set_num_threads(1)
    try:
        return _LEARN[recipe.regressor](recipe, lesson)
    finally:
        torch.set_num_threads(threads)
