"""The installed ONNX Runtime: exactly one, complete, with the libraries that a GPU needs; and TensorRT's cache.

The distributions of ONNX Runtime for different devices install the same package. With two installed, the one unpacked
last has overwritten the other, and CUDA is silently missing or present.

TensorRT's engines are cached in a directory for each model, runtime and set of GPUs. An engine is valid for one graph,
for the versions that built it and for the GPU it was tuned on, and ONNX Runtime does not remove old ones. It names a
file after the graph's structure and the GPU's compute capability, so a bundle with other weights would otherwise be
answered from an old engine.
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
# Names of the devices behind the providers of ONNX Runtime, for messages.
NAMES = {TENSORRT: "TensorRT", CUDA: "CUDA", CPU: "the CPU"}
DEVICES = {TENSORRT: "tensorrt", CUDA: "cuda", CPU: "cpu"}
# Every distribution known to bring the package `onnxruntime`.
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
    """The module `onnxruntime`.

    Raises:
        RuntimeUnavailable: it is missing, incomplete, or installed by several distributions.
    """
    installed = _installed()
    if len(installed) > 1:
        raise RuntimeUnavailable(
            f"{' and '.join(installed)} are installed together and overwrite each other",
            "uninstall all of them, then install one of the extras `cpu` and `gpu`",
        )
    try:
        import onnxruntime  # noqa: PLC0415 - optional: which of the runtimes is installed is the user's choice
    except ImportError as error:
        raise RuntimeUnavailable(
            f"ONNX Runtime cannot be imported ({error})", "install sceneseek with the extra `cpu` or `gpu`"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        # What is left when one of two distributions is uninstalled: it takes the other's files along.
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
    """Load the CUDA libraries that packages of Python bring, where this ONNX Runtime knows how."""
    preload = getattr(runtime, "preload_dlls", None)
    if preload is None:
        return
    # It prints what it misses to where our answers go; `missing_libraries` says it in their place.
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        preload()
    if printed.getvalue():
        log.debug("preloading CUDA's libraries: %s", printed.getvalue().strip())


@contextlib.contextmanager
def silenced(runtime: Any) -> Iterator[None]:
    """Keep ONNX Runtime from writing to stderr that a provider cannot be had: we say so, in one line."""
    runtime.set_default_logger_severity(_SILENT)
    try:
        yield
    finally:
        runtime.set_default_logger_severity(_WARNINGS)


def missing_libraries(runtime: Any, provider: str) -> str:
    """What the system's loader says of the libraries that a provider needs; empty if it finds them all.

    ONNX Runtime falls back without telling its caller why. Loading the provider's library once more, as it
    does, brings the reason.
    """
    folder = Path(runtime.__file__).with_name("capi")
    driver = _loading("libcuda.so.1")
    # The providers' libraries find the symbols of this one in the process, where ONNX Runtime puts it too.
    _loading(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
    library = _loading(str(folder / _LIBRARIES[provider]))
    return "; ".join(filter(None, (driver and f"no NVIDIA driver ({driver})", library)))


def _loading(library: str, mode: int = ctypes.DEFAULT_MODE) -> str:
    """What the loader says of a library that it cannot load; empty if it can."""
    try:
        ctypes.CDLL(library, mode)
    except OSError as error:
        return str(error).removesuffix(": No such file or directory")
    return ""


def _installed() -> list[str]:
    """Names and versions of the distributions that are installed.

    By the names of their folders: importlib.metadata takes a tenth of the time that a search takes.
    """
    found: dict[str, str] = {}
    for place in map(Path, sys.path):
        for folder in place.glob("o*-*.dist-info"):
            name, _, version = folder.stem.partition("-")
            found.setdefault(name.replace("_", "-"), version)
    return [f"{name} {found[name]}" for name in DISTRIBUTIONS if name in found]


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
        # Engines are loaded unchecked, so no other user may write here.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise RuntimeUnavailable(
            f"TensorRT's engines cannot be stored in {folder} ({error.strerror})",
            "let SCENESEEK_CACHE name a directory that can be written",
        ) from error
    return folder


def installed_gpus() -> str:
    """Name, compute capability and driver of every GPU, a line each, as `nvidia-smi` prints them; else ``unknown``.

    All of them: which one a session takes is CUDA_VISIBLE_DEVICES' to say. Where the tool is missing, the
    compute capability in the files' names still keeps generations of GPUs apart.
    """
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"
