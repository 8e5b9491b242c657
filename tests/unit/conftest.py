"""Without torch, the tests of training and of packs from the hub are not collected (`scripts/unit-tests`)."""

from __future__ import annotations

from importlib.util import find_spec

NEED_TORCH = [
    "test_cross_validation.py",
    "test_model_selection.py",
    "test_preprocessor.py",
    "test_regressors.py",
    "test_report.py",
    "test_training_cache.py",
    "test_training_joint_space.py",
    "test_training_regression.py",
    "test_training_shipped.py",
    "test_training_threshold.py",
    "test_weights_files.py",
]
collect_ignore = [] if find_spec("torch") else NEED_TORCH
