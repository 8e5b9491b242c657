"""Images, captions and ratings -> alignments (joint spaces with a calibration), heads, and their report.

May import torch and the towers of `sceneseek_export`; nothing that serves imports this package.

`sceneseek train alignment`: `corpus` (the files) -> `features` and `classes` (the frozen towers, cached by content in
`feature_cache`) -> `joint_space` (affine maps, see `affine`; how: `recipe`) -> `calibration` (from cosine to score) ->
`alignment` (measured, rounded, written with its card from `cards`).

`sceneseek train heads`: `rating_data` (the files) -> `rated` (rated pairs in the joint space that `space` finds) ->
`cross_validation` (`regressors` fitted to each `training_split`) -> `model_selection` -> `head_training` and `report`.

`sceneseek train threshold`: `threshold` chooses the score from which a result matches.
"""
