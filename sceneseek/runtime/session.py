"""A graph that is ready to run: arrays by name in, arrays by name out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sceneseek.runtime.buckets import Array, Buckets
from sceneseek.runtime.placement import Placement


class Session:
    """One graph on one device. Thread-safe.

    On the CPU a run is ONNX Runtime's own `run`, with nothing added. Elsewhere batches are brought to a few
    sizes (see `buckets`) and go through an IO binding, one a run, since a binding belongs to one caller.

    Args:
        session: an `onnxruntime.InferenceSession`.
        placement: where it runs.

    Attributes:
        placement: where it runs, and why.
        inputs, outputs: the graph's names, in its order.
    """

    def __init__(self, session: Any, placement: Placement) -> None:
        self.placement = placement
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self.inputs: tuple[str, ...] = tuple(node.name for node in inputs)
        self.outputs: tuple[str, ...] = tuple(node.name for node in outputs)
        self._session = session
        self._buckets: Buckets | None = None
        # Not on the CPU: it pays for every padded row in full, and an arena is all it keeps for a shape.
        if placement.device != "cpu":
            self._buckets = Buckets(
                {node.name: node.shape for node in inputs}, {node.name: node.shape for node in outputs}
            )

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Run the graph.

        Args:
            feed: an array for every input.
            outputs: which outputs to compute; all without it.
        """
        names = self.outputs if outputs is None else outputs
        if self._buckets is None:
            return dict(zip(names, self._session.run(names, feed), strict=True))
        padded, rows = self._buckets.pad(feed)
        arrays = self._run_bound(padded, names)
        return {name: array[:rows] for name, array in zip(names, arrays, strict=True)}

    def _run_bound(self, feed: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        for name in names:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        arrays: list[Array] = binding.copy_outputs_to_cpu()
        return arrays
