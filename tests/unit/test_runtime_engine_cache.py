"""The TensorRT engine cache is keyed by model, runtime, GPU and driver."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sceneseek.errors import RuntimeUnavailable
from sceneseek.files import cache_root
from sceneseek.runtime_installation import engine_folder, installed_gpus, make_engine_folder

L4 = "NVIDIA L4, 8.9, 580.65"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SCENESEEK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "image.onnx"
    path.write_bytes(b"weights")
    return path


def write_nvidia_smi(folder: Path, script: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def test_engine_folder_does_not_depend_on_file_name(graph: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(graph.read_bytes())
    assert engine_folder(graph, "1.31.1", L4) == engine_folder(copy, "1.31.1", L4)


def test_engine_folder_depends_on_weights_runtime_gpu_and_driver(graph: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"other weights")
    folders = {
        engine_folder(graph, "1.31.1", L4),
        engine_folder(other, "1.31.1", L4),
        engine_folder(graph, "1.32.0", L4),
        engine_folder(graph, "1.31.1", "NVIDIA H100, 9.0, 580.65"),
        engine_folder(graph, "1.31.1", "NVIDIA L4, 8.9, 590.10"),
    }
    assert len(folders) == 5


def test_cache_root_uses_sceneseek_cache_then_xdg_cache_home_then_home(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_root() == cache
    monkeypatch.delenv("SCENESEEK_CACHE")
    assert cache_root() == Path("/xdg/sceneseek")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == Path("/home/someone/.cache/sceneseek")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path("/home/someone/.cache/sceneseek")


def test_installed_gpus_lists_every_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_nvidia_smi(tmp_path, f"echo '{L4}'; echo 'NVIDIA T4, 7.5, 580.65'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert installed_gpus() == f"{L4}\nNVIDIA T4, 7.5, 580.65"


@pytest.mark.parametrize("script", [None, "echo 'no devices were found'; exit 6", "exec sleep 20"])
def test_installed_gpus_is_unknown_if_nvidia_smi_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str | None
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    if script:
        write_nvidia_smi(tools, script)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin" if script else str(tools))
    monkeypatch.setattr("sceneseek.runtime_installation._NVIDIA_SMI_TIMEOUT", 0.5)
    assert installed_gpus() == "unknown"


def test_engine_folder_is_private_to_owner(graph: Path) -> None:
    folder = make_engine_folder(graph, "1.31.1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert make_engine_folder(graph, "1.31.1") == folder


def test_unwritable_cache_error_mentions_sceneseek_cache(graph: Path, cache: Path) -> None:
    cache.write_text("a file, not a folder")
    with pytest.raises(RuntimeUnavailable, match="cannot be stored in") as refused:
        make_engine_folder(graph, "1.31.1")
    assert "SCENESEEK_CACHE" in refused.value.hint
