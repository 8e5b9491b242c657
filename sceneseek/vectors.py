"""The arrays passed between encoders, store and reranker."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sceneseek.errors import Unprocessable

Floats = npt.NDArray[np.float32]
_BYTES = np.dtype("<f4")


def in_base64(vector: Floats) -> str:
    """Encode numbers (D,) as float32, little-endian, in base64."""
    return base64.b64encode(vector.astype(_BYTES).tobytes()).decode("ascii")


def unit_vector(value: str | Sequence[float], width: int) -> Floats:
    """Parse and normalize a client's vector (width,), given as numbers or as the output of `in_base64`.

    Raises:
        Unprocessable: the value is not base64, has another width, or its numbers are infinite or all 0.
    """
    try:
        vector = np.frombuffer(base64.b64decode(value, validate=True), _BYTES) if isinstance(value, str) else value
    except (binascii.Error, ValueError) as error:
        raise Unprocessable(f"the vector is not base64 of float32 ({error})", "send numbers") from None
    joint = np.asarray(vector, np.float64)
    if len(joint) != width:
        raise Unprocessable(
            f"the vector has {len(joint):,} numbers, but those of the index have {width:,}",
            "send an embedding of this service's own model",
        )
    with np.errstate(over="ignore"):
        length = np.linalg.norm(joint)
    if not np.isfinite(length) or length < 1e-6:
        raise Unprocessable("the vector has no direction: its numbers are all 0, or too large", "send an embedding")
    return np.asarray(joint / length, np.float32)


@dataclass(frozen=True, slots=True)
class Vectors:
    """A batch of N encoded images or texts, float32: `joint` (N, D) are unit vectors, `head` is (N, H), H may be 0."""

    joint: Floats
    head: Floats

    def __len__(self) -> int:
        return len(self.joint)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The N points nearest to a query, nearest first.

    Attributes:
        ids: ids of the points.
        similarity: joint-space cosines (N,).
        joint: joint vectors (N, D); None if not requested.
        head: head vectors (N, H_i); None if not requested.
    """

    ids: list[str]
    similarity: Floats
    joint: Floats | None = None
    head: Floats | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def joined(self, others: Candidates) -> Candidates:
        """These candidates followed by the others, without repetitions; both must have the same arrays."""
        known = set(self.ids)
        fresh = [i for i, identity in enumerate(others.ids) if identity not in known]
        if not fresh:
            return self

        def both(mine: Floats | None, theirs: Floats | None) -> Floats | None:
            return None if mine is None or theirs is None else np.concatenate([mine, theirs[fresh]])

        return Candidates(
            [*self.ids, *(others.ids[i] for i in fresh)],
            np.concatenate([self.similarity, others.similarity[fresh]]),
            both(self.joint, others.joint),
            both(self.head, others.head),
        )
