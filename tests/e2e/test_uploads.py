"""Pictures put and deleted through the client, with a real service and a real indexer that are killed meanwhile."""

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
PATIENCE = 120.0


class Site:
    """A service and an indexer over one folder, which begins empty; each can be killed and started again."""

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
        # A session of its own: what it has started is killed with it.
        self._running[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)

    def kill(self, name: str) -> None:
        os.killpg(self._running[name].pid, signal.SIGKILL)
        self._running[name].wait(PATIENCE)

    def close(self) -> None:
        for process in self._running.values():
            process.terminate()
            process.wait(PATIENCE)

    def client(self, key: str = "writer") -> Client:
        return Client(f"http://127.0.0.1:{self.port}", self.keys[key].secret, timeout=PATIENCE, retries=20)


@pytest.fixture
def site(bundle: Bundle, tmp_path: Path) -> Iterator[Site]:
    found = Site(bundle, tmp_path)
    yield found
    found.close()


def png(image: Image.Image) -> bytes:
    with io.BytesIO() as out:
        image.save(out, "PNG")
        return out.getvalue()


def test_the_client_adds_replaces_and_deletes_pictures(site: Site, noise: Noise, tmp_path: Path) -> None:
    first, second = png(noise(30, 30)), png(noise(40, 40))
    (tmp_path / "second.png").write_bytes(second)
    with site.client() as client, site.client("reader") as reader:
        added = client.upload(first, "2024/фото.png", wait=PATIENCE)
        assert added == ImageStatus(id=added.id, state="indexed", etag=added.etag)
        assert reader.search("noise").results[0].id == added.id
        assert (client.collections().may_write, reader.collections().may_write) == (True, False)
        with pytest.raises(PreconditionRequired, match="there is another image"):
            client.upload(tmp_path / "second.png", "2024/фото.png")
        with pytest.raises(PreconditionFailed):
            client.upload(second, "2024/фото.png", if_match="another")
        replaced = client.upload(tmp_path / "second.png", "2024/фото.png", if_match=added.etag, wait=PATIENCE)
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
        assert client.delete(added.id, if_match=replaced.etag, wait=PATIENCE).state == "deleted"
        assert reader.search("noise").results == ()
        with pytest.raises(NotFound):
            client.delete("00000000-0000-5000-8000-000000000000")


def test_killed_again_and_again_nothing_that_was_acknowledged_is_lost(site: Site, noise: Noise) -> None:
    put: dict[str, bytes] = {}
    deleted: set[str] = set()

    def change() -> None:
        with site.client() as client:
            for number in range(40):
                picture = png(noise(20 + number, 20))
                status = client.upload(picture, f"{number % 3}/{number}.png")
                put[status.id] = picture
                if number % 5 == 4:
                    deleted.add(client.delete(status.id).id)

    chance, pause = random.Random(1), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        for number in range(8):
            pause.wait(chance.uniform(0.2, 1.5))
            name = ("service", "indexer")[number % 2]
            site.kill(name)
            site.start(name)
        changing.result()
    with site.client() as client:
        for identity, picture in put.items():
            states = {"deleted", "404"} if identity in deleted else {"indexed"}
            assert settled(client, identity, pause) in states
            if identity not in deleted:
                assert client.image(identity) == picture
        found = {result.id for result in client.results(Query("noise", k=50, keep_duplicates=True))}
    assert found == put.keys() - deleted
    files = [path for path in site.photos.rglob("*") if path.is_file() and ".sceneseek" not in path.parts]
    assert {path.read_bytes() for path in files} == {put[identity] for identity in found}


def settled(client: Client, identity: str, pause: threading.Event) -> str:
    for _ in range(int(PATIENCE / 0.1)):
        try:
            state = client.status(identity).state
        except NotFound:
            return "404"
        if state not in ("pending", "deleting"):
            return state
        pause.wait(0.1)
    raise AssertionError(f"{identity} is {state}")


def test_a_service_takes_pictures_only_with_keys(sceneseek: CommandLine, tmp_path: Path) -> None:
    refused = sceneseek("serve", "--uploads", str(tmp_path))
    assert refused.returncode == 2
    assert "--uploads needs --api-keys" in refused.stderr
