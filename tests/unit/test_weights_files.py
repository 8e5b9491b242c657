"""Reading weights files: only arrays are accepted, and no code is executed."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from sceneseek.errors import ExportError
from sceneseek_export.towers.wheels import File, read_weights


def legacy(content: Any) -> bytes:
    """A file in the format of torch before 1.6."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def read(content: bytes, name: str = "w.pth") -> dict[str, np.ndarray]:
    return read_weights(File(name, content, ""))


def test_tensors_round_trip_including_views_of_shared_storage() -> None:
    base = torch.arange(24, dtype=torch.float32)
    tensors = {
        "whole": base.view(4, 6),
        "transposed": base.view(4, 6).T,
        "slice": base[3:9],
        "half": torch.ones(3, dtype=torch.float16),
        "double": torch.full((2, 2), 0.1, dtype=torch.float64),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 5),
    }
    arrays = read(legacy(tensors))
    assert arrays.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert arrays[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(arrays[name], tensor.numpy())


def test_safetensors_round_trip() -> None:
    content = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3)})
    np.testing.assert_array_equal(read(content, "w.safetensors")["a"], [[0, 1, 2], [3, 4, 5]])


class TouchesFile:
    """An object whose unpickling touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_malicious_pickle_is_rejected_without_execution(tmp_path: Path) -> None:
    for content in (pickle.dumps(TouchesFile(tmp_path / "ran")), legacy({"a": TouchesFile(tmp_path / "ran")})):
        with pytest.raises(ExportError, match="is not allowed"):
            read(content)
    assert not (tmp_path / "ran").exists()


GOOD = legacy({"a": torch.arange(12, dtype=torch.float32).view(3, 4)})


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "w.pth"),
        (b"no pickle at all", "w.pth"),
        (GOOD[:-8], "w.pth"),
        (GOOD[: len(GOOD) // 2], "w.pth"),
        (pickle.dumps(1), "w.pth"),
        (legacy([torch.ones(1)]), "w.pth"),
        (legacy({"a": torch.ones(1), "note": "text"}), "w.pth"),
        (b"", "w.safetensors"),
        (save({"a": np.ones(4, np.float32)})[:-4], "w.safetensors"),
    ],
    ids=[
        "empty",
        "text",
        "truncated end",
        "truncated half",
        "other pickle",
        "list",
        "non-tensor",
        "empty safetensors",
        "truncated safetensors",
    ],
)
def test_damaged_weights_file_is_an_error(content: bytes, name: str) -> None:
    with pytest.raises(ExportError, match=rf"the weights {name} cannot be read"):
        read(content, name)


def test_tensor_beyond_its_storage_is_rejected() -> None:
    # K is a one-byte integer in the pickle; this changes the number of rows of the shape (3, 4).
    content = GOOD.replace(b"K\x03K\x04\x86", b"K\x04K\x04\x86", 1)
    assert content != GOOD
    with pytest.raises(ExportError, match="beyond its storage"):
        read(content)
