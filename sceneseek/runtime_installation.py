"""Checks of the ONNX Runtime installation and of the libraries that a GPU needs; and the cache of TensorRT engines.

The distributions of ONNX Runtime for different devices install the same package. If two are installed, the one unpacked
last has overwritten the other, and CUDA is silently missing or present.

TensorRT's engines are cached in a directory per model, runtime and set of GPUs. An engine is valid for one graph, for
the versions that built it and for the GPU it was tuned on; ONNX Runtime does not remove old ones. It names files after
the graph's structure and the GPU's compute capability only, so in a shared directory a bundle with other weights would
use an old engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sceneseek.errors import RuntimeUnavailable
from sceneseek.files import cache_root, sha256_of

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
# Names of ONNX Runtime's providers, for messages.
NAMES = {TENSORRT: "TensorRT", CUDA: "CUDA", CPU: "the CPU"}
DEVICES = {TENSORRT: "tensorrt", CUDA: "cuda", CPU: "cpu"}
# Every distribution known to contain the package `onnxruntime`.
DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-cann",
    "onnxruntime-training",
    "onnxruntime-silicon",
    "onnxruntime-windowsml",
    "ort-nightly",
    "ort-nightly-gpu",
)
_LIBRARIES = {CUDA: "libonnxruntime_providers_cuda.so", TENSORRT: "libonnxruntime_providers_tensorrt.so"}
_SILENT, _WARNINGS = 4, 2

log = logging.getLogger(__name__)


def import_runtime() -> Any:
    """Import `onnxruntime`.

    Raises:
        RuntimeUnavailable: the package is missing, incomplete, or installed by several distributions.
    """
    installed = _installed()
    if len(installed) > 1:
        raise RuntimeUnavailable(
            f"{' and '.join(installed)} are installed together and overwrite each other",
            "uninstall all of them, then install one of the extras `cpu` and `gpu`",
        )
    try:
        import onnxruntime  # noqa: PLC0415 - optional: the user chooses which distribution to install
    except ImportError as error:
        raise RuntimeUnavailable(
            f"ONNX Runtime cannot be imported ({error})", "install sceneseek with the extra `cpu` or `gpu`"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        # Uninstalling one of two distributions also removes files of the other.
        raise RuntimeUnavailable(
            "the installation of ONNX Runtime is incomplete", "uninstall it, then install the extra `cpu` or `gpu`"
        )
    return onnxruntime


def runtime_version() -> str:
    """The version of ONNX Runtime.

    Raises:
        RuntimeUnavailable: see `import_runtime`.
    """
    return str(import_runtime().__version__)


def preload_libraries(runtime: Any) -> None:
    """Load the CUDA libraries that are installed as Python packages, if this ONNX Runtime supports it."""
    preload = getattr(runtime, "preload_dlls", None)
    if preload is None:
        return
    # It prints errors to stdout, which is for results; `missing_libraries` reports them instead.
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        preload()
    if printed.getvalue():
        log.debug("preloading CUDA's libraries: %s", printed.getvalue().strip())


@contextlib.contextmanager
def silenced(runtime: Any) -> Iterator[None]:
    """Keep ONNX Runtime from logging to stderr that a provider failed; callers report that in one line."""
    runtime.set_default_logger_severity(_SILENT)
    try:
        yield
    finally:
        runtime.set_default_logger_severity(_WARNINGS)


def missing_libraries(runtime: Any, provider: str) -> str:
    """The loader's errors for the libraries that a provider needs; empty if all of them load.

    ONNX Runtime falls back without reporting a reason. Loading the provider's library again, in the same way, reveals
    it.
    """
    folder = Path(runtime.__file__).with_name("capi")
    driver = _load_error("libcuda.so.1")
    # Loaded globally, as ONNX Runtime does: the providers' libraries need its symbols.
    _load_error(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
    library = _load_error(str(folder / _LIBRARIES[provider]))
    return "; ".join(filter(None, (driver and f"no NVIDIA driver ({driver})", library)))


def _load_error(library: str, mode: int = ctypes.DEFAULT_MODE) -> str:
    """Load a library; returns the loader's error, empty if it succeeds."""
    try:
        ctypes.CDLL(library, mode)
    except OSError as error:
        return str(error).removesuffix(": No such file or directory")
    return ""


def _installed() -> list[str]:
    """Names and versions of the installed distributions of ONNX Runtime.

    Read from folder names: importlib.metadata would take a tenth of the time of a search.
    """
    versions: dict[str, str] = {}
    for directory in map(Path, sys.path):
        for folder in directory.glob("o*-*.dist-info"):
            name, _, version = folder.stem.partition("-")
            versions.setdefault(name.replace("_", "-"), version)
    return [f"{name} {versions[name]}" for name in DISTRIBUTIONS if name in versions]


_NVIDIA_SMI_TIMEOUT = 5.0


def engine_folder(graph: Path, runtime_version: str, gpus: str) -> Path:
    """The folder for the engines of a graph: `tensorrt/MODEL-RUNTIME-GPUS` below the cache root.

    Args:
        graph: the model file, identified by the sha256 of its content.
        runtime_version: version of ONNX Runtime.
        gpus: result of `installed_gpus`.
    """
    digest = hashlib.sha256(gpus.encode()).hexdigest()
    return cache_root() / "tensorrt" / f"{sha256_of(graph)[:32]}-{runtime_version}-{digest[:16]}"


def make_engine_folder(graph: Path, runtime_version: str) -> Path:
    """The `engine_folder` for this machine, created if missing.

    Raises:
        RuntimeUnavailable: the folder cannot be created.
    """
    folder = engine_folder(graph, runtime_version, installed_gpus())
    try:
        # Engines are loaded without verification, so other users must not be able to write here.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise RuntimeUnavailable(
            f"TensorRT's engines cannot be stored in {folder} ({error.strerror})",
            "set SCENESEEK_CACHE to a writable directory",
        ) from error
    return folder


def installed_gpus() -> str:
    """Name, compute capability and driver of every GPU, one per line, from `nvidia-smi`; ``unknown`` if that fails.

    All GPUs are listed, since CUDA_VISIBLE_DEVICES determines which one a session uses. Without the tool, the compute
    capability in the files' names still distinguishes generations of GPUs.
    """
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"
