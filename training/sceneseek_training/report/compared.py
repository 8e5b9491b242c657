"""Which results a report sets side by side, and under which grouping."""

from __future__ import annotations

from sceneseek_training.study import Grouping, Study, Validated

HONEST: Grouping = "image and caption"
CONSTANT, PROTOTYPE_MLP = "constant", "prototype-mlp"


def compared(study: Study, *names: str) -> list[Validated]:
    """Those of these heads that the study has, under the honest grouping, in this order and each once."""
    found = {result.recipe.name: result for result in study.results if result.grouping == HONEST}
    return [found[name] for name in dict.fromkeys(names) if name in found]
