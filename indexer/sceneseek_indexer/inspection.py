"""Whether a generation that was built anew may go live: its vectors are whole, and its graph finds what is near."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sceneseek.bundle import Bundle
from sceneseek.encoders import TextEncoder
from sceneseek.errors import UnfitGeneration
from sceneseek.sample_queries import QUERIES
from sceneseek.store import Collection
from sceneseek_indexer.pipeline import batched

LEAST_RECALL = 0.98
_LIMIT, _BATCH = 100, 1024
_LENGTH = 1e-2  # float16 somewhere on the way would still be nearer to 1

_ADVICE = "index the folders again; the live generation was left as it is"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found: how many points were looked at, and the recall of approximate against exact search."""

    points: int
    recall: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"points": self.points, "recall": round(self.recall, 4)}


def inspect(collection: Collection, bundle: Bundle) -> Inspection:
    """Look at every vector, and search with sample queries.

    Args:
        collection: optimised, not live yet.
        bundle: that filled it.

    Raises:
        UnfitGeneration: a vector is missing or none at all, or too little of what is near is found.
    """
    points = _check_vectors(collection)
    recall = _recall(collection, bundle, min(_LIMIT, points)) if points else 1.0
    if recall < LEAST_RECALL:
        raise UnfitGeneration(
            f"the new generation finds {recall:.3f} of what is nearest, less than {LEAST_RECALL}", _ADVICE
        )
    return Inspection(points, recall)


def _check_vectors(collection: Collection) -> int:
    seen = 0
    for records in batched(collection.scroll(_BATCH), _BATCH):
        ids = [record.id for record in records]
        stored = collection.vectors(ids)
        for identity in ids:
            vectors = stored.get(identity)
            if vectors is None or len(vectors.joint) != collection.info.joint:
                raise UnfitGeneration(f"the new generation lacks the vector of {identity}", _ADVICE)
            whole = len(vectors.head) == collection.info.head and np.isfinite(vectors.head).all()
            if not whole or not abs(np.linalg.norm(vectors.joint) - 1) < _LENGTH:
                raise UnfitGeneration(f"the new generation holds a broken vector of {identity}", _ADVICE)
        seen += len(ids)
    return seen


def _recall(collection: Collection, bundle: Bundle, limit: int) -> float:
    joints = TextEncoder(bundle, "cpu").encode(list(QUERIES)).joint
    found = []
    for joint in joints:
        near, true = (set(collection.nearest(joint, limit, exact=exact).ids) for exact in (False, True))
        found.append(len(near & true) / len(true))
    return float(np.mean(found))
