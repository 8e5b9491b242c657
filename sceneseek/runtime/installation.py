"""The ONNX Runtime that is installed: exactly one, whole, and what it needs from the machine.

The distributions of ONNX Runtime for different devices bring the same package. With two installed, whichever
was unpacked last has overwritten the other, and CUDA is silently gone or there.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from sceneseek.errors import RuntimeUnavailable
from sceneseek.runtime.placement import CUDA, TENSORRT

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
    installed = [f"{name} {version}" for name in DISTRIBUTIONS if (version := _version(name))]
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


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
