"""Train alignments (joint spaces with a calibration) and heads from images, captions and ratings, with a report.

May import torch and the towers of `sceneseek_export`; the server and the indexer do not import this package.

`sceneseek train alignment`: `corpus` (input files) -> `features` and `classes` (frozen towers, cached by content in
`feature_cache`) -> `joint_space` (affine maps, see `affine`, by a `recipe`) -> `calibration` (cosine to score) ->
`alignment` (measured, rounded, and written with a card from `cards`).

`sceneseek train heads`: `rating_data` (input files) -> `rated` (rated pairs in the joint space) -> `cross_validation`
(`regressors` fitted to each `training_split`) -> `model_selection` -> `head_training` and `report`.

`sceneseek train threshold`: `threshold` chooses the minimum score of a match.
"""
