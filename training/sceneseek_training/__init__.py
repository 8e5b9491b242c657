"""Images, captions and ratings -> alignments: the joint space of independent towers, and its calibration.

May import torch and the export room's towers; nothing that serves imports this room.

One training's way: `captions` and `corpus` (what there is to learn from) -> `images`, `texts` and `classes`
(through the frozen towers, cached by content) -> `joint_space` (the linear maps) -> `calibration` (from
cosine to score) -> `alignment` (measured, rounded, written with its `card`).
"""
