"""ONNX Runtime sessions: run a graph on the requested device, or raise an error with the reason.

`onnxruntime-gpu` falls back to the CPU without an error, and lists CUDA as available on machines without a GPU. So the
provider in use is read back from the session.

CUDA selects convolution algorithms and plans memory again for each new shape, and TensorRT may take minutes to build an
engine. So on a GPU batches are padded to 1, 2, 4, ..., 64 or a multiple of 64 rows by repeating the last row, and the
outputs are truncated.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sceneseek.errors import BundleError, RuntimeUnavailable
from sceneseek.runtime_installation import (
    CPU,
    CUDA,
    DEVICES,
    NAMES,
    TENSORRT,
    import_runtime,
    make_engine_folder,
    missing_libraries,
    preload_libraries,
    silenced,
)

if TYPE_CHECKING:
    # The command line and the server's master process import this module, but otherwise need no numpy.
    import numpy as np

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
Array: TypeAlias = "np.ndarray[Any, Any]"
Shape: TypeAlias = Sequence[str | int | None]

# The bundle determines the precision, so TF32 (ten bits) and fp16 are disabled.
_CUDA_OPTIONS = {"use_tf32": "0"}
_TENSORRT_OPTIONS = {"trt_fp16_enable": "False", "trt_engine_cache_enable": "True", "trt_timing_cache_enable": "True"}
_CACHES = ("trt_engine_cache_path", "trt_timing_cache_path")

_INSTALL = "install the extra `gpu` in place of `cpu`, or choose --device cpu"
_HINTS = {
    CUDA: "install the NVIDIA driver and the extra `gpu`, which includes CUDA and cuDNN, or choose --device cpu",
    TENSORRT: "install the NVIDIA driver, the extra `gpu` and TensorRT 10 (LD_LIBRARY_PATH finds it), "
    "or choose --device cuda or cpu",
}
LARGEST_POWER = 64
_BATCH = "N"

log = logging.getLogger(__name__)


def open_session(
    graph: Path, device: Device = "auto", threads: int = 0, *, int8: bool = False, brief: bool = False
) -> Session:
    """Open a session for a graph.

    Args:
        graph: the model file.
        device: ``auto`` uses CUDA if it works, else the CPU; with the others, there is no fallback.
        threads: threads per run on the CPU; 0 uses the runtime's default (one per physical core).
        int8: whether the graph was converted to int8. x86-64 processors without VNNI add its products in pairs in 16
            bits, which overflow: vectors would have a cosine of 0.94 with the correct ones. Slower instructions are
            used there instead, for which the runtime scans all weights.
        brief: whether only a few runs are expected. Weights are then not prepacked for fast products: a session of
            CLIP's text graph opens in 0.07 s instead of 0.3 s, and a run takes twice as long.

    Raises:
        RuntimeUnavailable: ONNX Runtime is missing or installed twice, or the requested device does not work.
        BundleError: the file is not a graph that the runtime can load.
    """
    loader = _Loader(import_runtime(), graph, threads, int8, brief)
    if device == "cpu":
        session, why = loader.on_cpu(), "asked for"
    elif device == "auto":
        session, why = loader.on_best()
    else:
        session, why = loader.on_gpu(TENSORRT if device == "tensorrt" else CUDA), "asked for"
    provider = session.get_providers()[0]
    placement = Placement(device, DEVICES[provider], provider, why)
    log.info("%s runs on %s (%s, asked for %s): %s", graph.name, placement.device, provider, device, why)
    return Session(session, placement)


class _Loader:
    """Opens `onnxruntime` sessions of one graph on a device."""

    def __init__(self, runtime: Any, graph: Path, threads: int, int8: bool, brief: bool) -> None:
        self._runtime, self._graph, self._threads, self._int8, self._brief = runtime, graph, threads, int8, brief

    def on_cpu(self) -> Any:
        """Open a session on the CPU; raises `BundleError` if the graph cannot be loaded."""
        try:
            return self._session([CPU])
        except Exception as error:
            raise BundleError(
                f"{self._graph} cannot be loaded ({error})", "write the bundle again with `sceneseek export`"
            ) from error

    def on_best(self) -> tuple[Any, str]:
        """Open a session on CUDA if it works, else on the CPU; returns it with the reason."""
        session, reason = self._try_gpu(CUDA)
        return (self.on_cpu(), reason) if session is None else (session, "CUDA works here")

    def on_gpu(self, provider: str) -> Any:
        """Open a session on a GPU provider; raises `RuntimeUnavailable` if it does not work."""
        session, reason = self._try_gpu(provider)
        if session is None:
            raise RuntimeUnavailable(
                f"{NAMES[provider]} was asked for, but {self._graph.name} cannot run on it: {reason}",
                _HINTS[provider] if provider in self._available() else _INSTALL,
            )
        return session

    def _try_gpu(self, provider: str) -> tuple[Any | None, str]:
        """Open a session that runs on the provider; returns None and the reason if that fails."""
        if provider not in self._available():
            return None, f"this ONNX Runtime was built without {NAMES[provider]}"
        preload_libraries(self._runtime)
        chosen = [(CUDA, _CUDA_OPTIONS), CPU]
        if provider == TENSORRT:
            folder = str(make_engine_folder(self._graph, self._runtime.__version__))
            chosen = [(TENSORRT, {**_TENSORRT_OPTIONS, **dict.fromkeys(_CACHES, folder)}), *chosen]
        try:
            with silenced(self._runtime):
                session = self._session(chosen)
        except Exception as error:  # noqa: BLE001 - whatever error a provider raises, the device cannot be used
            self.on_cpu()  # raises `BundleError` if the graph itself is broken
            return None, missing_libraries(self._runtime, provider) or str(error).strip()
        runs_on = session.get_providers()[0]
        if runs_on != provider:
            reason = missing_libraries(self._runtime, provider) or "for an unknown reason"
            return None, f"ONNX Runtime fell back to {NAMES.get(runs_on, runs_on)} ({reason})"
        return session, ""

    def _session(self, providers: list[Any]) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning makes a lone run slightly faster, but takes CPU time from everything else.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._int8:
            options.add_session_config_entry("session.x64quantprecision", "1")
        if self._brief:
            options.add_session_config_entry("session.disable_prepacking", "1")
        # onnxruntime's own fallback would print to stdout and switch providers, on loading or in the middle of a run.
        return self._runtime.InferenceSession(str(self._graph), options, providers=providers, enable_fallback=0)

    def _available(self) -> list[str]:
        available: list[str] = self._runtime.get_available_providers()
        return available


@dataclass(frozen=True, slots=True)
class Placement:
    """The device that runs a session.

    Attributes:
        asked: the requested device.
        device: the device in use: ``cpu``, ``cuda`` or ``tensorrt``.
        provider: ONNX Runtime's name of the device, read back from the session.
        why: the reason for the choice, in one clause.
    """

    asked: Device
    device: str
    provider: str
    why: str


class Session:
    """A session of one graph on one device. Thread-safe.

    On the CPU, `run` only calls ONNX Runtime's `run`. On a GPU, batches are padded to a few sizes (see `Buckets`) and
    use an IO binding per run, since a binding is not thread-safe.

    Args:
        session: an `onnxruntime.InferenceSession`.
        placement: the device that runs it.

    Attributes:
        placement: the device that runs it, and why.
        inputs, outputs: names in the graph, in its order.
    """

    def __init__(self, session: Any, placement: Placement) -> None:
        self.placement = placement
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self.inputs: tuple[str, ...] = tuple(node.name for node in inputs)
        self.outputs: tuple[str, ...] = tuple(node.name for node in outputs)
        self._session = session
        self._buckets: Buckets | None = None
        # Not on the CPU: each padded row costs as much as a real one, and a new shape only costs arena memory.
        if placement.device != "cpu":
            self._buckets = Buckets(
                {node.name: node.shape for node in inputs}, {node.name: node.shape for node in outputs}
            )

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Run the graph.

        Args:
            feed: an array for every input.
            outputs: the outputs to compute; all by default.
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


def bucket(rows: int) -> int:
    """The number of rows that a batch is padded to."""
    if rows > LARGEST_POWER:
        return -(-rows // LARGEST_POWER) * LARGEST_POWER
    return 1 << max(rows - 1, 0).bit_length()


class Buckets:
    """The padding of batches for one graph.

    Inputs whose first dimension is the symbol ``N`` are padded; others, such as the single text of a shortlist, are
    not. Nothing is padded if ``N`` is any other dimension or an output lacks it, since rows may then affect each other.

    Args:
        inputs: shapes of the graph's inputs, by name.
        outputs: shapes of its outputs, likewise.
    """

    def __init__(self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> None:
        row_by_row = all(_leads(shape) for shape in outputs.values()) and not any(
            _BATCH in shape[1:] for shape in (*inputs.values(), *outputs.values())
        )
        self.padded = frozenset(name for name, shape in inputs.items() if _leads(shape)) if row_by_row else frozenset()

    def pad(self, feed: Mapping[str, Array]) -> tuple[Mapping[str, Array], int | None]:
        """Pad the batches of a feed; also returns the number of rows to keep, None if nothing was padded."""
        sizes = {len(feed[name]) for name in self.padded if name in feed}
        if len(sizes) != 1:  # nothing to pad, or unequal sizes, which ONNX Runtime will reject
            return feed, None
        rows = sizes.pop()
        missing = bucket(rows) - rows
        if not rows or not missing:
            return feed, None
        return {name: _repeat_last(a, missing) if name in self.padded else a for name, a in feed.items()}, rows


def _leads(shape: Shape) -> bool:
    return bool(shape) and shape[0] == _BATCH


def _repeat_last(array: Array, times: int) -> Array:
    import numpy as np  # noqa: PLC0415 - not needed by every importer, see above

    return np.concatenate([array, np.repeat(array[-1:], times, axis=0)])
