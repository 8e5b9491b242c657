"""Regressors without a neural network: the mean rating, curves over the cosine, linear models, boosted trees."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from catboost import CatBoostRegressor
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, RidgeCV

from sceneseek.vectors import Floats
from sceneseek_export.curves import Calibration, IsotonicCurve
from sceneseek_export.heads import INPUTS, ConstantHead, CosineHead, LinearHead, TreesHead
from sceneseek_training import calibration
from sceneseek_training.head_recipes import HeadRecipe
from sceneseek_training.rated import Positions
from sceneseek_training.training_split import Columns, TrainingSplit, joined, read_inputs, towers_read

# Closer knots are merged, since their difference would be lost in float32.
_MIN_STEP = 1e-5


def fit_constant(_: HeadRecipe, split: TrainingSplit) -> ConstantHead:
    """Fit the mean of the targets."""
    return ConstantHead(float(split.targets.mean()))


def fit_logistic(_: HeadRecipe, split: TrainingSplit) -> CosineHead:
    """Fit a logistic curve, see `sceneseek_training.calibration.fit`."""
    similarity, target = similarities(split)
    slope, intercept = calibration.fit(similarity, target)
    return CosineHead(Calibration(slope, intercept, "human ratings"), alignment=split.space.alignment.fingerprint)


def fit_isotonic(_: HeadRecipe, split: TrainingSplit) -> CosineHead:
    """Fit an isotonic curve, with linear interpolation between the steps (Zadrozny and Elkan, KDD 2002)."""
    similarity, target = similarities(split)
    fitted = IsotonicRegression(y_min=0, y_max=1, increasing=True, out_of_bounds="clip").fit(similarity, target)
    at, scores = fitted.X_thresholds_, fitted.y_thresholds_.copy()
    kept = [0]
    for i in range(1, len(at)):
        if at[i] - at[kept[-1]] >= _MIN_STEP:
            kept.append(i)
        else:
            scores[kept[-1]] = scores[i]  # the higher of the two
    if len(kept) == 1:
        kept, at, scores = [0, 1], np.array([at[0], at[0] + 1]), np.array([scores[0], scores[0]])
    curve = IsotonicCurve(at[kept].astype(np.float32), scores[kept].astype(np.float32))
    return CosineHead(curve, alignment=split.space.alignment.fingerprint)


def similarities(split: TrainingSplit) -> tuple[Floats, Floats]:
    """Return cosines (P,) and targets (P,) of the split's expert pairs."""
    pairs = split.space.expert.take(split.expert)
    return split.space.input("similarity", pairs.image, pairs.caption)[:, 0], pairs.target


PENALTIES = tuple(float(10**power) for power in range(1, 7))


def fit_least_squares(recipe: HeadRecipe, split: TrainingSplit) -> LinearHead:
    """Fit ordinary least squares on unscaled columns.

    With more columns than pairs, this is the minimum-norm solution, which fits the pairs and predicts badly, as in the
    prototype. The head clips scores to [0, 1], so its errors are lower than those of the raw sum.
    """
    inputs, target = read_inputs(recipe, split)
    columns = Columns.of(inputs, split.space.alignment.parts, standardise=False)
    fitted = LinearRegression().fit(joined(inputs).astype(np.float64), target.astype(np.float64))
    return _linear_head(recipe, split, columns, fitted.coef_, fitted.intercept_)


def fit_ridge(recipe: HeadRecipe, split: TrainingSplit) -> LinearHead:
    """Fit a ridge on standardised columns, with the penalty by leave-one-out (Golub, Heath and Wahba 1979)."""
    inputs, target = read_inputs(recipe, split)
    columns = Columns.of(inputs, split.space.alignment.parts)
    fitted = RidgeCV(alphas=PENALTIES).fit(columns.scale(inputs).astype(np.float64), target.astype(np.float64))
    return _linear_head(recipe, split, columns, fitted.coef_, fitted.intercept_)


def _linear_head(
    recipe: HeadRecipe, split: TrainingSplit, columns: Columns, weight: np.ndarray, intercept: np.floating
) -> LinearHead:
    first = columns.first_layer(weight[None, :], np.array([intercept]))
    return LinearHead(first, towers=towers_read(recipe, split), alignment=split.space.alignment.fingerprint)


# Few columns per tree and coarse borders: on thousands of dense columns this is faster and no worse.
TREE_OPTIONS: dict[str, Any] = {
    "iterations": 300,
    "learning_rate": 0.1,
    "depth": 5,
    "rsm": 0.05,
    "border_count": 32,
    "loss_function": "RMSE",
    "early_stopping_rounds": 40,
}
_HELD_OUT = 0.2


def fit_trees(recipe: HeadRecipe, split: TrainingSplit) -> TreesHead:
    """Fit trees, with early stopping on a held-out fifth of the images and captions.

    All trees are kept if either side has too few pairs.
    """
    # Trees need no standardised columns; instead of `parts` they read the numbers of the product.
    read = tuple(name for name in recipe.inputs if name != "parts")
    stop, rest = _held_out(split)
    columns, target = _tree_columns(read, split, rest)
    model = CatBoostRegressor(
        **TREE_OPTIONS,
        random_seed=split.seed,
        allow_writing_files=False,
        verbose=False,
    )
    model.fit(columns, target, eval_set=_tree_columns(read, split, stop) if len(stop) else None)
    pairs = split.space.expert.take(split.expert[:1])
    widths = {name: values.shape[1] for name, values in split.space.inputs(read, pairs).items()}
    return _trees_head(model, {name: widths[name] for name in INPUTS if widths.get(name)}, recipe, split)


def _tree_columns(read: tuple[str, ...], split: TrainingSplit, places: Positions) -> tuple[Floats, Floats]:
    pairs = split.space.expert.take(places)
    inputs = split.space.inputs((name for name in INPUTS if name in read), pairs)
    return joined(inputs), pairs.target


def _held_out(split: TrainingSplit) -> tuple[Positions, Positions]:
    """Return positions of expert pairs for early stopping and for training, without common images or captions."""
    rng, space = np.random.default_rng((split.seed, 1)), split.space
    images = rng.random(len(space.image_joint)) < _HELD_OUT
    captions = rng.random(len(space.text_joint)) < _HELD_OUT
    pairs = space.expert.take(split.expert)
    of_image, of_caption = images[pairs.image], captions[pairs.caption]
    stop, rest = split.expert[of_image & of_caption], split.expert[~of_image & ~of_caption]
    if len(stop) < 20 or len(np.unique(space.expert.target[rest])) < 2:
        return split.expert[:0], split.expert
    return stop, rest


def _trees_head(model: Any, widths: dict[str, int], recipe: HeadRecipe, split: TrainingSplit) -> TreesHead:
    """Convert a CatBoost model through its JSON format."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        raw = json.loads(path.read_text(encoding="utf-8"))
    trees, depth = raw["oblivious_trees"], int(TREE_OPTIONS["depth"])
    feature = np.zeros((len(trees), depth), np.int64)
    border = np.full((len(trees), depth), np.inf, np.float32)
    leaves = np.zeros((len(trees), 1 << depth), np.float32)
    for i, tree in enumerate(trees):
        for j, cut in enumerate(tree["splits"] or ()):
            feature[i, j], border[i, j] = cut["float_feature_index"], cut["border"]
        leaves[i, : len(tree["leaf_values"])] = tree["leaf_values"]
    scale, bias = raw["scale_and_bias"]
    return TreesHead(
        widths=widths,
        feature=feature,
        border=border,
        leaves=(leaves * scale).astype(np.float32),
        bias=float(np.ravel(bias)[0]),
        towers=towers_read(recipe, split),
        alignment=split.space.alignment.fingerprint,
    )
