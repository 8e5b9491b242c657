"""The block that predicts meaning: ridge regression from an image to the mean of its captions' vectors.

Learning by contrast asks which caption belongs to which image, and has no use for how wrong the others are.
People who rate pairs have: a dog beside a text of a cat matches a little. Distances between texts know that
already, so this block brings an image to where its captions lie among texts, and compares there. The map of
the texts is no more than their principal directions; that of the images is the closed form of the ridge
(Hoerl and Kennard, Technometrics 12, 1970).
"""

from __future__ import annotations

import numpy as np
import torch

from sceneseek.vectors import Floats
from sceneseek_export.alignment import LearnedBlock, normalise
from sceneseek_training.affine import AffinePair, principal
from sceneseek_training.joint_space import Lessons, Views
from sceneseek_training.maps import Scaling
from sceneseek_training.recipe import Recipe, RegressionRecipe


def learn_regression(views: Views, lessons: Lessons, recipe: Recipe, block: RegressionRecipe) -> LearnedBlock:
    """Learn the block; nothing in it is random.

    Args:
        views: the images; all views of one count alike.
        lessons: what they are paired with.
        recipe: how inputs are scaled.
        block: which dimensions it has, and how strong the penalty is.
    """
    features, names = torch.from_numpy(views.features), torch.from_numpy(views.names)
    scaling = Scaling.of(features[0], recipe)
    inputs = scaling.image(features, names).flatten(0, 1).double().numpy()
    meant = _mean_captions(lessons, views.features.shape[1])
    centre, mean = inputs.mean(axis=0), meant.mean(axis=0)
    around = inputs - centre
    gram = around.T @ around
    gram[np.diag_indices_from(gram)] += block.penalty * np.trace(gram) / len(gram)
    weight = np.linalg.solve(gram, around.T @ np.tile(meant - mean, (len(views.features), 1))).T
    folded = _folded(weight, mean - weight @ centre, scaling)
    said = np.concatenate([lessons.texts, lessons.class_texts.reshape(-1, lessons.texts.shape[1])])
    seen = np.concatenate([views.features[0], views.names[0]], axis=1)
    cut = principal(folded, said, block.dimensions)
    return cut.stored(block.towers, block.share, seen.mean(axis=0), said.mean(axis=0))


def _mean_captions(lessons: Lessons, images: int) -> Floats:
    """(N, T): the direction of the mean of each image's captions."""
    total = np.zeros((images, lessons.texts.shape[1]))
    np.add.at(total, lessons.owner, lessons.texts)
    return normalise(total.astype(np.float32))


def _folded(weight: Floats, bias: Floats, scaling: Scaling) -> AffinePair:
    """The map over unscaled inputs, beside the texts as they are."""
    features, (width, _) = len(scaling.mean), weight.shape
    of_features = weight[:, :features] / scaling.deviation.numpy()
    image = np.concatenate([of_features, weight[:, features:] * scaling.names], axis=1)
    return AffinePair(
        image_weight=image.astype(np.float32),
        image_bias=(bias - of_features @ scaling.mean.numpy()).astype(np.float32),
        text_weight=np.eye(width, dtype=np.float32),
        text_bias=np.zeros(width, np.float32),
    )
