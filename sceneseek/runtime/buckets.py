"""Batches brought to a few sizes, for devices that prepare themselves for every shape they meet.

CUDA picks its convolutions and plans its memory anew for a new shape, TensorRT may build an engine for
minutes. So a batch is padded to the next of 1, 2, 4, ..., 64 and then the multiples of 64, by repeating its
last row, and the outputs are cut back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    # The command line and the server's master know of devices, and have no other use for numpy.
    import numpy as np

LARGEST_POWER = 64
_BATCH = "N"

Array: TypeAlias = "np.ndarray[Any, Any]"
Shape: TypeAlias = Sequence[str | int | None]


def bucket(rows: int) -> int:
    """The rows that a batch is padded to."""
    if rows > LARGEST_POWER:
        return -(-rows // LARGEST_POWER) * LARGEST_POWER
    return 1 << max(rows - 1, 0).bit_length()


class Buckets:
    """The padding of one graph.

    Inputs whose leading dimension is the symbol ``N`` are padded; others, such as the one text that a
    shortlist is scored for, are not. A graph in which ``N`` is anywhere else, or that has an output without
    it, may mix its rows, and is left alone.

    Args:
        inputs: the graph's inputs by name, each with its shape.
        outputs: its outputs likewise.
    """

    def __init__(self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> None:
        row_by_row = all(_leads(shape) for shape in outputs.values()) and not any(
            _BATCH in shape[1:] for shape in (*inputs.values(), *outputs.values())
        )
        self.padded = frozenset(name for name, shape in inputs.items() if _leads(shape)) if row_by_row else frozenset()

    def pad(self, feed: Mapping[str, Array]) -> tuple[Mapping[str, Array], int | None]:
        """The feed with padded batches, and the rows to cut the outputs to; None where nothing was padded."""
        sizes = {len(feed[name]) for name in self.padded if name in feed}
        if len(sizes) != 1:  # none to pad, or unequal ones, which ONNX Runtime will refuse in its own words
            return feed, None
        rows = sizes.pop()
        missing = bucket(rows) - rows
        if not rows or not missing:
            return feed, None
        return {name: _repeat_last(a, missing) if name in self.padded else a for name, a in feed.items()}, rows


def _leads(shape: Shape) -> bool:
    return bool(shape) and shape[0] == _BATCH


def _repeat_last(array: Array, times: int) -> Array:
    import numpy as np  # noqa: PLC0415 - see above

    return np.concatenate([array, np.repeat(array[-1:], times, axis=0)])
