"""Where TensorRT keeps the engines it builds: a folder for each model, runtime and set of GPUs.

An engine holds for the very graph, the versions that built it and the GPU it was tuned on, and ONNX Runtime
leaves it to its caller to throw old ones away. It names a file after the graph's structure and the GPU's
compute capability, so a bundle with other weights would be answered from an old engine.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from sceneseek.errors import RuntimeUnavailable
from sceneseek.files import cache_root, sha256_of

_SECONDS = 5.0


def engine_folder(graph: Path, runtime_version: str, gpus: str) -> Path:
    """The folder for a graph's engines: `tensorrt/MODEL-RUNTIME-GPUS` below the cache's root.

    Args:
        graph: the model file; the sha256 of its content counts, not its name.
        runtime_version: ONNX Runtime's.
        gpus: what `installed_gpus` says.
    """
    on = hashlib.sha256(gpus.encode()).hexdigest()
    return cache_root() / "tensorrt" / f"{sha256_of(graph)[:32]}-{runtime_version}-{on[:16]}"


def make_engine_folder(graph: Path, runtime_version: str) -> Path:
    """The folder of `engine_folder` on this machine, made where it is missing.

    Raises:
        RuntimeUnavailable: it cannot be made.
    """
    folder = engine_folder(graph, runtime_version, installed_gpus())
    try:
        # Engines are loaded without question, so nobody else may put one there.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise RuntimeUnavailable(
            f"TensorRT's engines cannot be kept in {folder} ({error.strerror})",
            "let SCENESEEK_CACHE name a directory that can be written",
        ) from error
    return folder


def installed_gpus() -> str:
    """Name, compute capability and driver of every GPU, a line each, as `nvidia-smi` tells; else ``unknown``.

    All of them: which one a session takes is CUDA_VISIBLE_DEVICES' to say. Where the tool is missing, the
    compute capability in the files' names still keeps generations of GPUs apart.
    """
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"
