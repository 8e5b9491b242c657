"""Gradient boosting over oblivious trees: CatBoost (Prokhorenkova et al., NeurIPS 2018)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from catboost import CatBoostRegressor

from sceneseek.vectors import Floats
from sceneseek_export.heads import INPUTS, TreesHead
from sceneseek_training.folds import Lesson
from sceneseek_training.head_recipes import HeadRecipe
from sceneseek_training.rated import Positions
from sceneseek_training.regressors.columns import joined, towers_read

# Few of the columns a tree, coarse borders: thousands of dense columns are slow otherwise, and no worse.
OPTIONS: dict[str, Any] = {
    "iterations": 300,
    "learning_rate": 0.1,
    "depth": 5,
    "rsm": 0.05,
    "border_count": 32,
    "loss_function": "RMSE",
    "early_stopping_rounds": 40,
}
_HELD_OUT = 0.2


def learn_trees(recipe: HeadRecipe, lesson: Lesson) -> TreesHead:
    """Trees until a held-out fifth of the images, apart from the rest in captions too, is predicted no better.

    Where that leaves too little on either side, all trees are kept.
    """
    # Nothing is standardised: trees do not mind; and of the joint space they see each number as it is.
    read = tuple(name for name in recipe.inputs if name != "parts")
    stop, rest = _held_out(lesson)
    columns, target = _columns(read, lesson, rest)
    model = CatBoostRegressor(
        **OPTIONS,
        random_seed=lesson.seed,
        allow_writing_files=False,
        verbose=False,
    )
    model.fit(columns, target, eval_set=_columns(read, lesson, stop) if len(stop) else None)
    pairs = lesson.space.expert.take(lesson.expert[:1])
    widths = {name: values.shape[1] for name, values in lesson.space.inputs(read, pairs).items()}
    return _head(model, {name: widths[name] for name in INPUTS if widths.get(name)}, recipe, lesson)


def _columns(read: tuple[str, ...], lesson: Lesson, places: Positions) -> tuple[Floats, Floats]:
    pairs = lesson.space.expert.take(places)
    inputs = lesson.space.inputs((name for name in INPUTS if name in read), pairs)
    return joined(inputs), pairs.target


def _held_out(lesson: Lesson) -> tuple[Positions, Positions]:
    """Places of the expert pairs to stop by, and to learn from: no image and no caption is in both."""
    dice, space = np.random.default_rng((lesson.seed, 1)), lesson.space
    images = dice.random(len(space.image_joint)) < _HELD_OUT
    captions = dice.random(len(space.text_joint)) < _HELD_OUT
    pairs = space.expert.take(lesson.expert)
    of_image, of_caption = images[pairs.image], captions[pairs.caption]
    stop, rest = lesson.expert[of_image & of_caption], lesson.expert[~of_image & ~of_caption]
    if len(stop) < 20 or len(np.unique(space.expert.target[rest])) < 2:
        return lesson.expert[:0], lesson.expert
    return stop, rest


def _head(model: Any, widths: dict[str, int], recipe: HeadRecipe, lesson: Lesson) -> TreesHead:
    """From CatBoost's own description of its trees."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        raw = json.loads(path.read_text(encoding="utf-8"))
    trees, depth = raw["oblivious_trees"], int(OPTIONS["depth"])
    feature = np.zeros((len(trees), depth), np.int64)
    border = np.full((len(trees), depth), np.inf, np.float32)
    leaves = np.zeros((len(trees), 1 << depth), np.float32)
    for i, tree in enumerate(trees):
        for j, split in enumerate(tree["splits"] or ()):
            feature[i, j], border[i, j] = split["float_feature_index"], split["border"]
        leaves[i, : len(tree["leaf_values"])] = tree["leaf_values"]
    scale, bias = raw["scale_and_bias"]
    return TreesHead(
        widths=widths,
        feature=feature,
        border=border,
        leaves=(leaves * scale).astype(np.float32),
        bias=float(np.ravel(bias)[0]),
        towers=towers_read(recipe, lesson),
        alignment=lesson.space.alignment.fingerprint,
    )
