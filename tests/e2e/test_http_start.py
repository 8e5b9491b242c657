"""A service that cannot start prints the reason on one line and exits with 1 (2 for a usage error)."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from sceneseek.store import open_store
from tests.command_line import CommandLine
from tests.played_qdrant import PlayedQdrant


@pytest.fixture
def index(index_url: str, tmp_path: Path) -> Path:
    """A copy of the gallery's index for one test."""
    return Path(shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index"))


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def refusal(sceneseek: CommandLine, *options: str | Path, code: int = 1) -> str:
    """The only line that `serve` prints before it exits with `code`."""
    completed = sceneseek.process("serve", *options)
    assert completed.returncode == code, completed.stderr
    assert completed.stdout == ""
    line, *more = completed.stderr.splitlines()
    assert more == []
    return line


def test_serve_names_a_missing_bundle(sceneseek: CommandLine, index: Path, tmp_path: Path) -> None:
    line = refusal(sceneseek, "--bundle", tmp_path / "none", "--index", f"file:{index}", "--port", "0")
    assert line.startswith(f"error: no bundle at {tmp_path / 'none'}")
    assert "sceneseek export" in line


def test_serve_rejects_a_corrupted_bundle(sceneseek: CommandLine, bundle: Bundle, index: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(bundle.path, tmp_path / "changed"))
    graph = bytearray((changed / "score.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (changed / "score.onnx").write_bytes(graph)
    line = refusal(sceneseek, "--bundle", changed, "--index", f"file:{index}", "--port", "0")
    assert "score.onnx is not the file that was exported" in line


def test_serve_rejects_an_index_of_another_image_graph(sceneseek: CommandLine, bundle: Bundle, index: Path) -> None:
    (record,) = index.glob("generations/*/generation.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "image_fingerprint": "0" * 64}))
    line = refusal(sceneseek, "--bundle", bundle.path, "--index", f"file:{index}", "--port", "0")
    assert "was filled by another image graph (000000000000)" in line


def test_serve_rejects_an_index_locked_by_another_process(sceneseek: CommandLine, bundle: Bundle, index: Path) -> None:
    store = open_store(f"file:{index}")
    live = store.live()
    assert live is not None
    held = store.open(live)
    try:
        line = refusal(sceneseek, "--bundle", bundle.path, "--index", f"file:{index}", "--port", "0")
    finally:
        held.close()
    assert "is held by process" in line


def test_serve_reports_a_rejected_qdrant_key(sceneseek: CommandLine, bundle: Bundle) -> None:
    with PlayedQdrant(key="secret").serving() as played:
        line = refusal(sceneseek, "--bundle", bundle.path, "--index", played.url, "--port", "0")
    assert "requires an API key" in line


def test_serve_names_a_port_in_use(sceneseek: CommandLine, bundle: Bundle, index: Path, taken_port: int) -> None:
    line = refusal(sceneseek, "--bundle", bundle.path, "--index", f"file:{index}", "--port", str(taken_port))
    assert line.startswith(f"error: port {taken_port} of 127.0.0.1 is taken: ")


@pytest.mark.parametrize(("device", "name"), [("cuda", "CUDA"), ("tensorrt", "TensorRT")])
def test_serve_names_an_unavailable_device_with_the_reason(
    sceneseek: CommandLine, bundle: Bundle, tmp_path: Path, device: str, name: str
) -> None:
    where = ("--bundle", bundle.path, "--index", f"file:{tmp_path / 'none'}", "--port", "0")
    line = refusal(sceneseek, *where, "--device", device)
    assert line.startswith(f"error: {name} was asked for, but text.onnx cannot run on it: ")
    assert "choose --device c" in line


def test_serve_names_an_unavailable_host_address(sceneseek: CommandLine) -> None:
    assert "has no address 192.0.2.1" in refusal(sceneseek, "--host", "192.0.2.1", "--port", "0")
    assert "'nowhere.invalid' is unknown" in refusal(sceneseek, "--host", "nowhere.invalid", "--port", "0")


def test_serve_rejects_an_unknown_index_url_scheme(sceneseek: CommandLine, bundle: Bundle) -> None:
    line = refusal(sceneseek, "--bundle", bundle.path, "--index", "redis://x", "--port", "0", code=2)
    assert "is not the URL of an index" in line
