"""Uploads and deletions through the client, while the service and the indexer are killed and restarted."""

from __future__ import annotations

import io
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from sceneseek.bundle import Bundle
from sceneseek.client import Client, ImageStatus, Query
from sceneseek.errors import Forbidden, ImageError, NotFound, PreconditionFailed, PreconditionRequired, Unprocessable
from sceneseek_server.access.keys import add_key, new_key
from tests.command_line import CommandLine

Noise = Callable[[int, int], Image.Image]
TIMEOUT = 120.0


class Site:
    """A service and an indexer over one folder, initially empty; each can be killed and restarted."""

    def __init__(self, bundle: Bundle, home: Path) -> None:
        self.photos = home / "photos"
        self.photos.mkdir()
        self.keys = {name: new_key(name, datetime.now(UTC), write=name == "writer") for name in ("writer", "reader")}
        for key in self.keys.values():
            add_key(home / "keys.json", key)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        common = ("--bundle", str(bundle.path), "--index", f"file:{home / 'index'}")
        uploads = ("--uploads", str(self.photos), "--api-keys", str(home / "keys.json"))
        self._commands = {
            "service": ("serve", "--port", str(self.port), *common, *uploads),
            "indexer": ("index", "watch", str(self.photos), "--interval", "1", *common),
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name in self._commands:
            self.start(name)

    def start(self, name: str) -> None:
        command = [str(Path(sys.executable).with_name("sceneseek")), *self._commands[name]]
        # A new session, so that `killpg` also kills child processes.
        self._running[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)

    def kill(self, name: str) -> None:
        os.killpg(self._running[name].pid, signal.SIGKILL)
        self._running[name].wait(TIMEOUT)

    def close(self) -> None:
        for process in self._running.values():
            process.terminate()
            process.wait(TIMEOUT)

    def client(self, key: str = "writer") -> Client:
        return Client(f"http://127.0.0.1:{self.port}", self.keys[key].secret, timeout=TIMEOUT, retries=20)


@pytest.fixture
def site(bundle: Bundle, tmp_path: Path) -> Iterator[Site]:
    site = Site(bundle, tmp_path)
    yield site
    site.close()


def png(image: Image.Image) -> bytes:
    with io.BytesIO() as out:
        image.save(out, "PNG")
        return out.getvalue()


def test_client_uploads_replaces_and_deletes_images(site: Site, noise: Noise, tmp_path: Path) -> None:
    first, second = png(noise(30, 30)), png(noise(40, 40))
    (tmp_path / "second.png").write_bytes(second)
    with site.client() as client, site.client("reader") as reader:
        added = client.upload(first, "2024/фото.png", wait=TIMEOUT)
        assert added == ImageStatus(id=added.id, state="indexed", etag=added.etag)
        assert reader.search("noise").results[0].id == added.id
        assert (client.collections().may_write, reader.collections().may_write) == (True, False)
        with pytest.raises(PreconditionRequired, match="there is another image"):
            client.upload(tmp_path / "second.png", "2024/фото.png")
        with pytest.raises(PreconditionFailed):
            client.upload(second, "2024/фото.png", if_match="another")
        replaced = client.upload(tmp_path / "second.png", "2024/фото.png", if_match=added.etag, wait=TIMEOUT)
        assert (replaced.id, replaced.state, client.image(added.id)) == (added.id, "indexed", second)
        with pytest.raises(Unprocessable, match="is not a valid path for a picture"):
            client.upload(first, "../a.png")
        with pytest.raises(ImageError, match="not an image of a known format"):
            client.upload(b"words", "a.png")
        with pytest.raises(Forbidden, match="this key may not write"):
            reader.upload(first, "b.png")
        with pytest.raises(Forbidden, match="this key may not write"):
            reader.delete(added.id)
        with pytest.raises(PreconditionFailed):
            client.delete(added.id, if_match=added.etag)
        assert client.delete(added.id, if_match=replaced.etag, wait=TIMEOUT).state == "deleted"
        assert reader.search("noise").results == ()
        with pytest.raises(NotFound):
            client.delete("00000000-0000-5000-8000-000000000000")


def test_acknowledged_changes_survive_kills_of_service_and_indexer(site: Site, noise: Noise) -> None:
    uploaded: dict[str, bytes] = {}
    deleted: set[str] = set()

    def change() -> None:
        with site.client() as client:
            for number in range(40):
                content = png(noise(20 + number, 20))
                status = client.upload(content, f"{number % 3}/{number}.png")
                uploaded[status.id] = content
                if number % 5 == 4:
                    deleted.add(client.delete(status.id).id)

    rng, pause = random.Random(1), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        for number in range(8):
            pause.wait(rng.uniform(0.2, 1.5))
            name = ("service", "indexer")[number % 2]
            site.kill(name)
            site.start(name)
        changing.result()
    with site.client() as client:
        for identity, content in uploaded.items():
            states = {"deleted", "404"} if identity in deleted else {"indexed"}
            assert final_state(client, identity, pause) in states
            if identity not in deleted:
                assert client.image(identity) == content
        indexed = {result.id for result in client.results(Query("noise", k=50, keep_duplicates=True))}
    assert indexed == uploaded.keys() - deleted
    files = [path for path in site.photos.rglob("*") if path.is_file() and ".sceneseek" not in path.parts]
    assert {path.read_bytes() for path in files} == {uploaded[identity] for identity in indexed}


def final_state(client: Client, identity: str, pause: threading.Event) -> str:
    for _ in range(int(TIMEOUT / 0.1)):
        try:
            state = client.status(identity).state
        except NotFound:
            return "404"
        if state not in ("pending", "deleting"):
            return state
        pause.wait(0.1)
    raise AssertionError(f"{identity} is {state}")


def test_serve_rejects_uploads_without_api_keys(sceneseek: CommandLine, tmp_path: Path) -> None:
    refused = sceneseek("serve", "--uploads", str(tmp_path))
    assert refused.returncode == 2
    assert "--uploads needs --api-keys" in refused.stderr
