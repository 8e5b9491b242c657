"""One ONNX Runtime is installed, whole; anything else is explained."""

from __future__ import annotations

import itertools
import sys
from importlib import metadata
from types import ModuleType

import pytest

from sceneseek.errors import RuntimeUnavailable
from sceneseek.runtime_installation import DISTRIBUTIONS, import_runtime, runtime_version


def pretend_installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def version(name: str) -> str:
        if name not in names:
            raise metadata.PackageNotFoundError(name)
        return "1.31.1"

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(["onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"], 2))
)
def test_two_runtimes_that_overwrite_each_other_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, one: str, other: str
) -> None:
    pretend_installed(monkeypatch, one, other)
    with pytest.raises(RuntimeUnavailable, match=f"{one} 1.31.1 and {other} 1.31.1 are installed together") as refused:
        import_runtime()
    assert "uninstall" in refused.value.hint


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_any_one_runtime_will_do(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend_installed(monkeypatch, name)
    assert hasattr(import_runtime(), "InferenceSession")


def test_a_missing_runtime_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeUnavailable, match="cannot be imported") as refused:
        import_runtime()
    assert "`cpu` or `gpu`" in refused.value.hint


def test_what_is_left_of_two_runtimes_when_one_is_uninstalled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, "onnxruntime-gpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(RuntimeUnavailable, match="incomplete"):
        import_runtime()


def test_the_version_is_that_of_the_runtime_that_is_installed() -> None:
    assert runtime_version() == metadata.version("onnxruntime")
