"""Weights files to numpy arrays, without the framework that wrote them.

A file from outside is data: nothing in it is run. `safetensors` is plain data by design. A ``.pth`` of torch before
version 1.6 is five pickles (magic number, protocol, system, tensors by name, keys of the storages in the order in
which they follow) and then the storages, each a 64-bit count and its little-endian numbers; its unpickler here
knows an ordered dictionary and the rebuilding of a tensor, and refuses everything else.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
from safetensors.numpy import load

from sceneseek.errors import ExportError
from sceneseek_export.towers.wheels import File

Arrays: TypeAlias = dict[str, np.ndarray]

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
_ADVICE = "the file is damaged or of another kind: fetch it again"


def read_weights(file: File) -> Arrays:
    """The arrays of a ``.safetensors`` file, or of a ``.pth`` in torch's legacy form.

    Raises:
        ExportError: it is neither, is damaged, or holds anything but arrays.
    """
    try:
        return load(file.content) if file.name.endswith(".safetensors") else _legacy_pth(file.content)
    except Exception as error:  # a damaged pickle raises anything
        raise ExportError(f"the weights {file.name} cannot be read ({error})", _ADVICE) from error


@dataclass(frozen=True)
class _View:
    """A tensor whose storage has not been read yet; offset, shape and strides count elements."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def over(self, storage: np.ndarray) -> np.ndarray:
        """The array, checked to lie within its storage."""
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        numbers = (self.offset, *self.shape, *self.strides)
        if min(numbers) < 0 or (0 not in self.shape and last >= len(storage)):
            raise ValueError("a tensor reaches beyond its storage")
        steps = [step * storage.itemsize for step in self.strides]
        return as_strided(storage[self.offset :], self.shape, steps).copy()


class _Unpickler(pickle.Unpickler):
    """Admits what a dictionary of tensors is made of; `dtypes` collects the storages' types by key."""

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
        raise pickle.UnpicklingError(f"{module}.{name} is not admitted in a weights file")

    def persistent_load(self, pid: Any) -> str:
        _, kind, key = pid[:3]
        self._dtypes[str(key)] = _DTYPES[kind]
        return str(key)


def _legacy_pth(content: bytes) -> Arrays:
    file, dtypes = io.BytesIO(content), dict[str, str]()
    magic, _, _, tensors, keys = (_Unpickler(file, dtypes).load() for _ in range(5))
    if magic != _MAGIC:
        raise ValueError("no file of torch's legacy form")
    storages = {}
    for key in keys:
        count, dtype = int.from_bytes(file.read(8), "little"), np.dtype(dtypes[key])
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
        if len(storages[key]) != count:
            raise ValueError("it is cut off")
    if not isinstance(tensors, Mapping) or not all(isinstance(view, _View) for view in tensors.values()):
        raise ValueError("it holds something beside tensors")
    return {str(name): view.over(storages[view.storage]) for name, view in tensors.items()}
