"""A source becomes a directory: from the hub through its own client, from its cache without a network, or by name.

There is no model hub in these tests: a server on this machine speaks what the client needs of its protocol.
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

# What the hub's repositories hold beside what a tower reads.
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
    """The repository `files`, by name in the repository, under `NAME` at `REVISION`; 404 for others."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self) -> None:
        """Of a file: who it is, not what."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """A file, or the repository's listing."""
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        """Nothing."""

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
    """A hub without files yet, and its address."""
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
    """Ask for sources in a fresh process, which reads the hub's address from its environment."""

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


def test_only_what_a_tower_reads_is_fetched_once_and_then_needs_no_hub(
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


def test_weights_in_shards_or_in_one_bin_are_fetched_whole(
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


def test_a_missing_model_and_an_unreachable_hub_have_different_errors(hub: tuple[type[Hub], str], fetch: Fetch) -> None:
    _, address = hub
    nobody, other = f"hub:nobody/nothing@{REVISION}", f"hub:{NAME}@{'f' * 40}"
    unknown, _, unpinned, _ = fetch(address, nobody, other)
    assert unknown.startswith("the hub has no public model nobody/nothing: ")
    assert unpinned.startswith(f"the model {NAME} on the hub has no revision {'f' * 40}: ")
    away, _ = fetch("http://127.0.0.1:9", SOURCE)
    assert away.startswith(f"the model hub cannot be reached for {NAME} (")
    for said in (unknown, unpinned, away):
        assert "--weights" in said
        assert "=DIRECTORY" in said
        assert "\n" not in said
    assert f"--weights {NAME}=DIRECTORY" in away


def test_a_full_disk_is_no_network_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(ExportError, match=f"{NAME} cannot be stored in the hub's cache .No space left") as caught:
        checkpoint(text_spec(SOURCE))
    assert "HF_HOME" in caught.value.hint


def text_spec(source: str) -> TextTowerSpec:
    return TextTowerSpec("ear", "bert", source)


def test_a_copy_in_the_hubs_cache_is_used_and_an_incomplete_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    snapshot = checkpoints.cached(tmp_path, checkpoints.bert(tmp_path / "bert"), NAME, REVISION)
    assert checkpoint(text_spec(SOURCE)) == snapshot
    with pytest.raises(ExportError, match="cannot be reached"):  # it has no preprocessor's configuration
        checkpoint(ImageTowerSpec("eye", "resnet", SOURCE))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ExportError, match="cannot be reached"):
        checkpoint(text_spec(SOURCE))


@pytest.mark.parametrize(
    "source", [f"hub:{NAME}", f"hub:{NAME}@main", f"hub:{NAME}@0123456", f"hub:some-model@{REVISION}", "hub:"]
)
def test_a_source_on_the_hub_pins_a_commit(source: str) -> None:
    with pytest.raises(ExportError, match="pins no revision") as caught:
        checkpoint(text_spec(source))
    assert "40 hex digits" in caught.value.hint


def test_a_name_that_the_hub_cannot_have_is_refused() -> None:
    with pytest.raises(ExportError, match="no name of a model"):
        checkpoint(text_spec(f"hub:some--owner/some--model@{REVISION}"))


def test_a_local_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    drawn = checkpoints.bert(tmp_path / "bert")
    assert checkpoint(text_spec(f"dir:{drawn}")) == drawn
