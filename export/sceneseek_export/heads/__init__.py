"""Heads: what turns a pair of an image and a text into a score in [0, 1].

A head is data, in numpy: what `training` writes, what `export` splits into the three graphs, and the
unsplit reference that the split is compared with.

- `ConstantHead`: the same score for every pair; what others must beat.
- `CosineHead`: a calibrated joint-space cosine, by a logistic curve or by isotonic steps.
- `LinearHead`: a weighted sum of the inputs, cut to [0, 1].
- `MlpHead`: a network whose output is added to the logit of the calibrated cosine.
- `TreesHead`: a sum of oblivious decision trees (CatBoost), cut to [0, 1].

What a head may read of a pair stands in `base`. A head that does not read ``image`` needs nothing stored
beside the joint vectors (H_i = 0), so it can be exchanged without indexing again.
"""

from sceneseek_export.heads.base import INPUTS, FirstLayer, Head, pair_inputs
from sceneseek_export.heads.kinds import (
    Calibration,
    ConstantHead,
    CosineHead,
    IsotonicCurve,
    LinearHead,
    MlpHead,
    TreesHead,
    load_head,
    save_head,
)

__all__ = [
    "INPUTS",
    "Calibration",
    "ConstantHead",
    "CosineHead",
    "FirstLayer",
    "Head",
    "IsotonicCurve",
    "LinearHead",
    "MlpHead",
    "TreesHead",
    "load_head",
    "pair_inputs",
    "save_head",
]
