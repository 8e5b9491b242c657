"""Resolving a source to a directory: through the hub's client, from its cache while offline, or as a local path.

A local server stands in for the hub, and implements the part of its API that the client uses.
"""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pytest

from sceneseek.errors import ExportError
from sceneseek_export.packs import ImageTowerSpec, TextTowerSpec
from sceneseek_export.towers.checkpoint import checkpoint
from tests import checkpoints
from tests.conftest import ROOT

NAME, REVISION = "some-owner/some-model", "0123456789abcdef0123456789abcdef01234567"
SOURCE = f"hub:{NAME}@{REVISION}"

# Files of hub repositories that no tower reads.
OTHERS = ("README.md", "flax_model.msgpack", "tf_model.h5", "onnx/model.onnx", "model.onnx", "rust_model.ot")

PROGRAM = """
import json, sys
from sceneseek_export.towers.checkpoint import checkpoint
from sceneseek.errors import ExportError
from sceneseek_export.packs import ImageTowerSpec, TextTowerSpec
for source in sys.argv[1:]:
    for spec in (TextTowerSpec("ear", "clip-text", source), ImageTowerSpec("eye", "clip-image", source)):
        try:
            print(json.dumps(sorted(path.name for path in checkpoint(spec).iterdir())))
        except ExportError as error:
            print(json.dumps(str(error)))
"""


class Hub(BaseHTTPRequestHandler):
    """Serves `files` as the repository `NAME` at `REVISION`; 404 for others."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self) -> None:
        """The headers of a file."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """A file, or the listing of the repository."""
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0].lstrip("/")
        listing, resolved = f"api/models/{NAME}/revision/", f"{NAME}/resolve/{REVISION}/"
        if path == f"{listing}{REVISION}":
            siblings = [{"rfilename": name} for name in self.files]
            document = {"id": NAME, "sha": REVISION, "siblings": siblings, "private": False, "tags": []}
            self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"}, body)
        elif path.startswith(resolved) and path.removeprefix(resolved) in self.files:
            name = path.removeprefix(resolved)
            if body:
                self.asked.append(name)
            content = self.files[name]
            etag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": REVISION}, body)
        else:
            known = path.startswith(f"api/models/{NAME}/")
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"}, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[tuple[type[Hub], str]]:
    """An empty hub and its URL."""
    handler = type("Handler", (Hub,), {"files": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


Fetch = Callable[..., list[Any]]


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """Resolve sources in a new process, which reads the hub's URL from its environment."""

    def run(address: str, *sources: str, cache: Path | None = None) -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM, *sources],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            env={"HF_ENDPOINT": address, "HF_HOME": str(cache or tmp_path / "cache"), "PATH": "", "NO_PROXY": "*"},
            check=True,
        )
        assert done.stderr == ""
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def repository(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} | dict.fromkeys(OTHERS, b"other")


def test_hub_source_downloads_only_needed_files_and_is_cached(
    hub: tuple[type[Hub], str], fetch: Fetch, tmp_path: Path
) -> None:
    handler, address = hub
    drawn = checkpoints.clip(tmp_path / "clip")
    handler.files = repository(drawn) | {"pytorch_model.bin": b"the same again"}
    expected = sorted(path.name for path in drawn.iterdir())
    assert "model.safetensors" in expected
    assert fetch(address, SOURCE) == [expected, expected]
    assert sorted(handler.asked) == expected
    assert fetch("http://127.0.0.1:9", SOURCE) == [expected, expected]


def test_hub_source_downloads_sharded_or_pickled_weights_completely(
    hub: tuple[type[Hub], str], fetch: Fetch, tmp_path: Path
) -> None:
    handler, address = hub
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    small = {"config.json": b"{}", "preprocessor_config.json": b"{}", "vocab.txt": b"a"}
    shards = {
        "model.safetensors.index.json": json.dumps(index).encode(),
        **dict.fromkeys(index["weight_map"].values(), b""),
    }
    handler.files = {**small, **shards, "pytorch_model.bin": b"", **dict.fromkeys(OTHERS, b"")}
    assert fetch(address, SOURCE, cache=tmp_path / "1")[0] == sorted({**small, **shards})
    handler.files = {**small, "pytorch_model.bin": b"", **dict.fromkeys(OTHERS, b"")}
    assert fetch(address, SOURCE, cache=tmp_path / "2")[0] == sorted({**small, "pytorch_model.bin": b""})


def test_missing_model_missing_revision_and_unreachable_hub_have_different_errors(
    hub: tuple[type[Hub], str], fetch: Fetch
) -> None:
    _, address = hub
    nobody, other = f"hub:nobody/nothing@{REVISION}", f"hub:{NAME}@{'f' * 40}"
    unknown, _, unpinned, _ = fetch(address, nobody, other)
    assert unknown.startswith("the hub has no public model nobody/nothing: ")
    assert unpinned.startswith(f"the model {NAME} on the hub has no revision {'f' * 40}: ")
    away, _ = fetch("http://127.0.0.1:9", SOURCE)
    assert away.startswith(f"the model hub cannot be reached for {NAME} (")
    for message in (unknown, unpinned, away):
        assert "--weights" in message
        assert "=DIRECTORY" in message
        assert "\n" not in message
    assert f"--weights {NAME}=DIRECTORY" in away


def test_full_disk_is_not_reported_as_a_network_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(ExportError, match=f"{NAME} cannot be stored in the hub's cache .No space left") as caught:
        checkpoint(text_spec(SOURCE))
    assert "HF_HOME" in caught.value.hint


def text_spec(source: str) -> TextTowerSpec:
    return TextTowerSpec("ear", "bert", source)


def test_offline_source_uses_a_complete_cached_snapshot_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    snapshot = checkpoints.cached(tmp_path, checkpoints.bert(tmp_path / "bert"), NAME, REVISION)
    assert checkpoint(text_spec(SOURCE)) == snapshot
    with pytest.raises(ExportError, match="cannot be reached"):  # it has no preprocessor_config.json
        checkpoint(ImageTowerSpec("eye", "resnet", SOURCE))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ExportError, match="cannot be reached"):
        checkpoint(text_spec(SOURCE))


@pytest.mark.parametrize(
    "source", [f"hub:{NAME}", f"hub:{NAME}@main", f"hub:{NAME}@0123456", f"hub:some-model@{REVISION}", "hub:"]
)
def test_hub_source_requires_a_full_commit_hash(source: str) -> None:
    with pytest.raises(ExportError, match="does not pin a revision") as caught:
        checkpoint(text_spec(source))
    assert "40 hex digits" in caught.value.hint


def test_hub_source_rejects_an_invalid_name() -> None:
    with pytest.raises(ExportError, match="not a valid model name"):
        checkpoint(text_spec(f"hub:some--owner/some--model@{REVISION}"))


def test_local_directory_is_used_unchanged(tmp_path: Path) -> None:
    drawn = checkpoints.bert(tmp_path / "bert")
    assert checkpoint(text_spec(f"dir:{drawn}")) == drawn
