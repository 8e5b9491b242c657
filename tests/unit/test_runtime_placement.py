"""`open_session` reports the actual device, and never falls back from a requested one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sceneseek.errors import BundleError, RuntimeUnavailable
from sceneseek.runtime import Device, Placement, open_session

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
GPU_BUILD = (TENSORRT, CUDA, CPU)


class FakeRuntime:
    """A fake `onnxruntime` module with the given available and working providers.

    A provider that does not work makes a session fall back silently, or fail with the message `raises`.
    """

    __version__ = "1.99.0"
    __file__ = "/nowhere/onnxruntime/__init__.py"

    def __init__(self, built_with: tuple[str, ...], works: tuple[str, ...] = (CPU,), raises: str = "") -> None:
        self.built_with, self.works, self.raises = built_with, works, raises
        self.asked: list[dict[str, dict[str, str]]] = []
        self.entries: list[dict[str, str]] = []
        self.preloads = 0
        self.severities: list[int] = []

    def get_available_providers(self) -> list[str]:
        return list(self.built_with)

    def preload_dlls(self) -> None:
        print("Failed to load libcublasLt.so.13")  # noqa: T201 - like the real module
        self.preloads += 1

    def set_default_logger_severity(self, severity: int) -> None:
        self.severities.append(severity)

    class SessionOptions:
        """Recorded session options."""

        def __init__(self) -> None:
            self.entries: dict[str, str] = {}

        def add_session_config_entry(self, key: str, value: str) -> None:
            self.entries[key] = value

    def InferenceSession(  # noqa: N802 - the real one is a class
        self, path: str, options: SessionOptions, providers: list[Any], enable_fallback: int = 1
    ) -> Any:
        assert isinstance(options, self.SessionOptions)
        assert enable_fallback == 0
        if Path(path).read_bytes() == b"junk":
            raise ValueError("Protobuf parsing failed.")
        by_name = dict((p, {}) if isinstance(p, str) else p for p in providers)
        self.asked.append(by_name)
        self.entries.append(options.entries)
        if self.raises and next(iter(by_name)) not in self.works:
            raise RuntimeError(self.raises)
        runs_on = [p for p in by_name if p in self.works]
        node = SimpleNamespace(name="x", shape=["N", 2])
        return SimpleNamespace(get_providers=lambda: runs_on, get_inputs=lambda: [node], get_outputs=lambda: [node])


Install = Callable[..., FakeRuntime]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "text.onnx"
    path.write_bytes(b"a graph")
    return path


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """Replace `onnxruntime` with a fake."""
    monkeypatch.setenv("SCENESEEK_CACHE", str(tmp_path / "cache"))

    def install(*arguments: Any, **options: Any) -> FakeRuntime:
        runtime = FakeRuntime(*arguments, **options)
        monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
        return runtime

    return install


def test_auto_uses_cuda_if_session_runs_on_it(install: Install, graph: Path) -> None:
    install(GPU_BUILD, works=(CUDA, CPU))
    assert open_session(graph).placement == Placement("auto", "cuda", CUDA, "CUDA works here")


def test_auto_never_uses_tensorrt(install: Install, graph: Path) -> None:
    runtime = install(GPU_BUILD, works=GPU_BUILD)
    assert open_session(graph).placement.device == "cuda"
    assert [TENSORRT in providers for providers in runtime.asked] == [False]


def test_auto_without_cuda_build_uses_cpu_and_preloads_nothing(install: Install, graph: Path) -> None:
    runtime = install(("AzureExecutionProvider", CPU))
    assert open_session(graph).placement == Placement("auto", "cpu", CPU, "this ONNX Runtime was built without CUDA")
    assert runtime.preloads == 0


def test_auto_explains_silent_fallback_to_cpu(install: Install, graph: Path) -> None:
    install(GPU_BUILD)
    placement = open_session(graph).placement
    assert (placement.device, placement.provider) == ("cpu", CPU)
    assert placement.why.startswith("ONNX Runtime fell back to the CPU (")
    assert "libonnxruntime_providers_cuda.so: cannot open shared object file" in placement.why


def test_auto_falls_back_to_cpu_if_provider_raises(install: Install, graph: Path) -> None:
    runtime = install(GPU_BUILD, raises="CUDA failure 35: driver version is insufficient")
    assert open_session(graph).placement.device == "cpu"
    assert [next(iter(providers)) for providers in runtime.asked][-1] == CPU


@pytest.mark.parametrize("found_libraries", [True, False])
def test_error_reports_missing_library_or_runtime_message(
    install: Install, graph: Path, monkeypatch: pytest.MonkeyPatch, found_libraries: bool
) -> None:
    install(GPU_BUILD, raises="CUDA failure 100: no CUDA-capable device is detected")
    if found_libraries:
        monkeypatch.setattr("sceneseek.runtime.missing_libraries", lambda *_: "")
    with pytest.raises(RuntimeUnavailable) as refused:
        open_session(graph, "cuda")
    assert ("no CUDA-capable device" in refused.value.what) is found_libraries
    assert ("cannot open shared object file" in refused.value.what) is not found_libraries


@pytest.mark.parametrize(("device", "name"), [("cuda", "CUDA"), ("tensorrt", "TensorRT")])
@pytest.mark.parametrize("built_with", [GPU_BUILD, (CPU,)])
def test_requested_device_never_falls_back(
    install: Install, graph: Path, device: Device, name: str, built_with: tuple[str, ...]
) -> None:
    install(built_with)
    with pytest.raises(RuntimeUnavailable, match=f"{name} was asked for, but text.onnx cannot run on it: ") as refused:
        open_session(graph, device)
    assert "--device" in refused.value.hint


def test_tensorrt_falling_back_to_cuda_is_rejected(install: Install, graph: Path) -> None:
    install(GPU_BUILD, works=(CUDA, CPU))
    with pytest.raises(RuntimeUnavailable, match="fell back to CUDA"):
        open_session(graph, "tensorrt")


def test_tensorrt_caches_engines_and_disables_fp16(install: Install, graph: Path, tmp_path: Path) -> None:
    runtime = install(GPU_BUILD, works=GPU_BUILD)
    assert open_session(graph, "tensorrt").placement == Placement("tensorrt", "tensorrt", TENSORRT, "asked for")
    (providers,) = runtime.asked
    assert list(providers) == [TENSORRT, CUDA, CPU]
    options = providers[TENSORRT]
    assert options["trt_fp16_enable"] == "False"
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "True"
    folder = Path(options["trt_engine_cache_path"])
    assert folder.is_dir()
    assert folder.parent == tmp_path / "cache" / "tensorrt"
    assert providers[CUDA] == {"use_tf32": "0"}


def test_cpu_session_uses_only_cpu_provider(install: Install, graph: Path) -> None:
    runtime = install(GPU_BUILD, works=GPU_BUILD)
    assert open_session(graph, "cpu").placement == Placement("cpu", "cpu", CPU, "asked for")
    assert runtime.asked == [{CPU: {}}]


@pytest.mark.parametrize("brief", [True, False])
def test_brief_session_disables_prepacking(install: Install, graph: Path, brief: bool) -> None:
    runtime = install([CPU])
    open_session(graph, "cpu", brief=brief)
    assert ("session.disable_prepacking" in runtime.entries[0]) is brief


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "tensorrt"])
def test_damaged_graph_raises_bundle_error_on_every_device(install: Install, graph: Path, device: Device) -> None:
    install(GPU_BUILD, works=GPU_BUILD)
    graph.write_bytes(b"junk")
    with pytest.raises(BundleError, match=r"cannot be loaded \(Protobuf"):
        open_session(graph, device)


def test_device_probing_prints_nothing(install: Install, graph: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runtime = install(GPU_BUILD)
    open_session(graph)
    assert runtime.preloads == 1
    assert runtime.severities == [4, 2]
    assert capfd.readouterr() == ("", "")


def test_session_is_logged_once_with_reason(install: Install, graph: Path, caplog: pytest.LogCaptureFixture) -> None:
    install((CPU,))
    with caplog.at_level(logging.INFO, "sceneseek.runtime"):
        open_session(graph)
    assert [record.getMessage() for record in caplog.records] == [
        f"text.onnx runs on cpu ({CPU}, asked for auto): this ONNX Runtime was built without CUDA"
    ]
