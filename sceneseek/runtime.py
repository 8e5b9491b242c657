"""ONNX Runtime sessions: which device a graph runs on, proved rather than hoped for.

`onnxruntime-gpu` falls back to the CPU without an error, and the two runtimes overwrite each other when
both are installed; so the provider is read back from the session that was made, and a doubled
installation is refused.
"""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from sceneseek.errors import BundleError, RuntimeUnavailable

Device = Literal["auto", "cpu", "cuda"]

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

log = logging.getLogger(__name__)


def open_session(graph: Path, device: Device = "auto", threads: int = 0) -> Any:
    """An `onnxruntime.InferenceSession` for a graph.

    Args:
        graph: the model file.
        device: ``auto`` takes CUDA where the runtime has it and it works, else the CPU.
        threads: threads within one run; 0 leaves it to the runtime (one a physical core).

    Raises:
        RuntimeUnavailable: no runtime, two of them, or not the device that was asked for.
        BundleError: the file is not a graph that the runtime can load.
    """
    onnxruntime = _import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A spinning pool answers a lone run a little sooner, but takes the cores from everybody else meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    offered = onnxruntime.get_available_providers()
    wants_cuda = device == "cuda" or (device == "auto" and CUDA in offered)
    if device == "cuda" and CUDA not in offered:
        raise RuntimeUnavailable(
            "CUDA was asked for, but this ONNX Runtime was built without it",
            "install the extra `gpu` in place of `cpu`, or choose --device cpu",
        )
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=[CUDA, CPU] if wants_cuda else [CPU])
    except Exception as error:
        raise BundleError(
            f"{graph} cannot be loaded ({error})", "write the bundle again with `sceneseek export`"
        ) from error
    runs_on = session.get_providers()[0]
    if device == "cuda" and runs_on != CUDA:
        raise RuntimeUnavailable(
            f"CUDA was asked for, but {graph.name} runs on {runs_on}",
            "check the driver and that cuDNN and CUDA are those the runtime was built for",
        )
    log.info("%s runs on %s (asked for: %s, threads: %s)", graph.name, runs_on, device, threads or "auto")
    return session


def _import_runtime() -> Any:
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) == 2:
        raise RuntimeUnavailable(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other",
            "uninstall both, then install one of the extras `cpu` and `gpu`",
        )
    try:
        import onnxruntime  # noqa: PLC0415 - optional: which of the two runtimes is installed is the user's choice
    except ImportError as error:
        raise RuntimeUnavailable(
            f"ONNX Runtime cannot be imported ({error})", "install sceneseek with the extra `cpu` or `gpu`"
        ) from error
    return onnxruntime


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
