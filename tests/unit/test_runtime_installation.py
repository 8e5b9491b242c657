"""Exactly one complete ONNX Runtime must be installed; otherwise the error explains why."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from sceneseek.errors import RuntimeUnavailable
from sceneseek.runtime_installation import DISTRIBUTIONS, import_runtime, runtime_version


@pytest.fixture
def pretend_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Restrict imports to a folder with the metadata of the named distributions."""
    import_runtime()  # it stays imported

    def pretend(*names: str) -> None:
        for name in names:
            (tmp_path / f"{name.replace('-', '_')}-1.31.1.dist-info").mkdir()
        monkeypatch.setattr(sys, "path", [str(tmp_path / "missing"), str(tmp_path)])

    return pretend


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(["onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"], 2))
)
def test_conflicting_runtimes_are_rejected_by_name(
    pretend_installed: Callable[..., None], one: str, other: str
) -> None:
    pretend_installed(one, other)
    with pytest.raises(RuntimeUnavailable, match=f"{one} 1.31.1 and {other} 1.31.1 are installed together") as refused:
        import_runtime()
    assert "uninstall" in refused.value.hint


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_any_single_runtime_is_accepted(pretend_installed: Callable[..., None], name: str) -> None:
    pretend_installed(name)
    assert hasattr(import_runtime(), "InferenceSession")


def test_missing_runtime_error_names_the_extras(
    pretend_installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_installed()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeUnavailable, match="cannot be imported") as refused:
        import_runtime()
    assert "`cpu` or `gpu`" in refused.value.hint


def test_incomplete_runtime_is_rejected(
    pretend_installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_installed("onnxruntime-gpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(RuntimeUnavailable, match="incomplete"):
        import_runtime()


def test_runtime_version_is_that_of_the_distribution() -> None:
    assert runtime_version() == metadata.version("onnxruntime")
