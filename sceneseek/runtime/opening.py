"""A graph's file to a session on the device that was asked for, or an error that says why not.

`onnxruntime-gpu` falls back to the CPU without an error, and lists CUDA as available on machines without a
GPU; so the provider is read back from the session that was made.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sceneseek.errors import BundleError, RuntimeUnavailable
from sceneseek.runtime.engine_cache import make_engine_folder
from sceneseek.runtime.installation import import_runtime, missing_libraries, preload_libraries, silenced
from sceneseek.runtime.placement import CPU, CUDA, DEVICES, NAMES, TENSORRT, Device, Placement
from sceneseek.runtime.session import Session

# The bundle decides about precision, so nothing is rounded to ten bits or halved behind its back.
_CUDA_OPTIONS = {"use_tf32": "0"}
_TENSORRT_OPTIONS = {"trt_fp16_enable": "False", "trt_engine_cache_enable": "True", "trt_timing_cache_enable": "True"}
_CACHES = ("trt_engine_cache_path", "trt_timing_cache_path")

_INSTALL = "install the extra `gpu` in place of `cpu`, or choose --device cpu"
_HINTS = {
    CUDA: "install the NVIDIA driver and the extra `gpu`, which brings CUDA and cuDNN, or choose --device cpu",
    TENSORRT: "install the NVIDIA driver, the extra `gpu` and TensorRT 10 (LD_LIBRARY_PATH finds it), "
    "or choose --device cuda or cpu",
}

log = logging.getLogger(__name__)


def open_session(graph: Path, device: Device = "auto", threads: int = 0) -> Session:
    """A session for a graph.

    Args:
        graph: the model file.
        device: ``auto`` takes CUDA where it works, else the CPU; the others are taken or refused.
        threads: threads within one run on the CPU; 0 leaves it to the runtime (one a physical core).

    Raises:
        RuntimeUnavailable: no runtime, two of them, or not the device that was asked for.
        BundleError: the file is not a graph that the runtime can load.
    """
    loader = _Loader(import_runtime(), graph, threads)
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
    """One graph, to be loaded on a device; its sessions are those of `onnxruntime`."""

    def __init__(self, runtime: Any, graph: Path, threads: int) -> None:
        self._runtime, self._graph, self._threads = runtime, graph, threads

    def on_cpu(self) -> Any:
        """A session on the CPU; `BundleError` if the graph cannot be loaded."""
        try:
            return self._session([CPU])
        except Exception as error:
            raise BundleError(
                f"{self._graph} cannot be loaded ({error})", "write the bundle again with `sceneseek export`"
            ) from error

    def on_best(self) -> tuple[Any, str]:
        """A session on CUDA where it works, else on the CPU, and why."""
        session, reason = self._try_gpu(CUDA)
        return (self.on_cpu(), reason) if session is None else (session, "CUDA works here")

    def on_gpu(self, provider: str) -> Any:
        """A session on a provider of GPUs; `RuntimeUnavailable` if it runs anywhere else."""
        session, reason = self._try_gpu(provider)
        if session is None:
            raise RuntimeUnavailable(
                f"{NAMES[provider]} was asked for, but {self._graph.name} cannot run on it: {reason}",
                _HINTS[provider] if provider in self._offered() else _INSTALL,
            )
        return session

    def _try_gpu(self, provider: str) -> tuple[Any | None, str]:
        """A session that runs on the provider, or None and why not."""
        if provider not in self._offered():
            return None, f"this ONNX Runtime was built without {NAMES[provider]}"
        preload_libraries(self._runtime)
        chosen = [(CUDA, _CUDA_OPTIONS), CPU]
        if provider == TENSORRT:
            folder = str(make_engine_folder(self._graph, self._runtime.__version__))
            chosen = [(TENSORRT, {**_TENSORRT_OPTIONS, **dict.fromkeys(_CACHES, folder)}), *chosen]
        try:
            with silenced(self._runtime):
                session = self._session(chosen)
        except Exception as error:  # noqa: BLE001 - whatever a provider fails with, the device cannot be used
            self.on_cpu()  # a graph that loads nowhere is the bundle's fault, and raises here
            return None, missing_libraries(self._runtime, provider) or str(error).strip()
        runs_on = session.get_providers()[0]
        if runs_on != provider:
            said = missing_libraries(self._runtime, provider) or "without a reason"
            return None, f"ONNX Runtime fell back to {NAMES.get(runs_on, runs_on)} ({said})"
        return session, ""

    def _session(self, providers: list[Any]) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning pool answers a lone run a little sooner, but takes the cores from everybody else meanwhile.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Its own fallback would print to stdout and go on elsewhere, at loading or in the middle of a run.
        return self._runtime.InferenceSession(str(self._graph), options, providers=providers, enable_fallback=0)

    def _offered(self) -> list[str]:
        offered: list[str] = self._runtime.get_available_providers()
        return offered
