"""Files below a folder are opened safely: links and races never lead to a file outside it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sceneseek.local_folder import LeadsOut, NotAFile, open_below


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file and a subfolder with a file, next to a secret file and folders of secrets."""
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    (photos / "a.jpg").write_bytes(b"whole")
    (photos / "sub" / "b.jpg").write_bytes(b"whole")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "b.jpg").write_bytes(b"secret")
    (tmp_path / "photos of others").mkdir()
    (tmp_path / "photos of others" / "a.jpg").write_bytes(b"secret")
    monkeypatch.chdir(tmp_path)
    return photos


def read(folder: Path, relative: str) -> bytes:
    with open_below(folder, relative) as file:
        return file.read()


@pytest.mark.parametrize(
    ("link", "target", "relative"),
    [
        ("link.jpg", "a.jpg", "link.jpg"),
        ("link.jpg", "{root}/a.jpg", "link.jpg"),
        ("link.jpg", "sub/b.jpg", "link.jpg"),
        ("link.jpg", "./sub/../a.jpg", "link.jpg"),
        ("sub/link.jpg", "../a.jpg", "sub/link.jpg"),
        ("folder", "sub", "folder/b.jpg"),
        ("folder", "{root}/sub", "folder/b.jpg"),
        ("sub/up", "..", "sub/up/a.jpg"),
        ("link.jpg", "{alias}/a.jpg", "link.jpg"),
    ],
)
def test_links_inside_folder_are_followed(root: Path, link: str, target: str, relative: str) -> None:
    (root.parent / "alias").symlink_to(root)
    (root / link).symlink_to(target.format(root=root, alias=root.parent / "alias"))
    assert read(root, relative) == b"whole"
    assert read(root.parent / "alias", relative) == b"whole"


@pytest.mark.parametrize(
    ("link", "target", "relative"),
    [
        ("link.jpg", "../secret.jpg", "link.jpg"),
        ("link.jpg", "{out}/secret.jpg", "link.jpg"),
        ("link.jpg", "/proc/self/cwd/secret.jpg", "link.jpg"),
        ("link.jpg", "{out}/photos of others/a.jpg", "link.jpg"),
        ("folder", "../secrets", "folder/b.jpg"),
        ("folder", "{out}", "folder/secret.jpg"),
        ("sub/up", "../..", "sub/up/secret.jpg"),
        ("one.jpg", "two.jpg", "one.jpg"),
        ("link.jpg", "sub/../../secret.jpg", "link.jpg"),
        ("unused", "a.jpg", "../secret.jpg"),
        ("unused", "a.jpg", "sub/../../secret.jpg"),
        ("unused", "a.jpg", "{out}/secret.jpg"),
        ("unused", "a.jpg", ".."),
        ("unused", "a.jpg", ""),
        ("link.jpg", ".", "link.jpg"),
        ("link.jpg", "{root}", "link.jpg"),
    ],
)
def test_paths_and_links_leading_out_are_rejected(root: Path, link: str, target: str, relative: str) -> None:
    (root / "two.jpg").symlink_to("../secret.jpg")
    (root / link).symlink_to(target.format(root=root, out=root.parent))
    with pytest.raises(LeadsOut):
        read(root, relative.format(out=root.parent))


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_non_regular_file_is_rejected_without_blocking(root: Path, kind: str) -> None:
    place = root / "a.jpg"
    place.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        match kind:
            case "pipe":
                os.mkfifo(place)
            case "socket":
                listener.bind("photos/a.jpg")
            case "folder":
                place.mkdir()
            case "device":
                place.symlink_to("/dev/zero")
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the type is checked below
            read(root, "a.jpg")
    expected = {"socket": OSError, "device": LeadsOut}
    assert isinstance(caught.value, expected.get(kind, NotAFile))


@pytest.mark.parametrize("target", ["a.jpg", "round/x", "{root}/a.jpg"])
def test_symlink_loop_raises_os_error(root: Path, target: str) -> None:
    (root / "a.jpg").unlink()
    (root / "round").symlink_to("round")
    (root / "a.jpg").symlink_to(target.format(root=root))
    with pytest.raises(OSError, match=r"Too many levels|leads out|No such file"):
        read(root, "a.jpg")


@pytest.mark.parametrize("relative", ["gone.jpg", "sub/gone.jpg", "a.jpg/x", "gone/x.jpg", "n" * 300])
def test_missing_file_raises_os_error_without_leaking_descriptors(root: Path, relative: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match=r"No such file|Not a directory|too long"):
        read(root, relative)
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "no descriptor is left open"


@pytest.fixture
def swapping(root: Path) -> Iterator[Callable[[str, str], None]]:
    """Repeatedly swap a path for a link to a target, and back."""
    stop, threads = threading.Event(), []

    def start(place: str, target: str) -> None:
        own, other, here = root / "own", root / "other", root / place
        other.symlink_to(root.parent / target)

        def exchange() -> None:
            while not stop.is_set():
                here.rename(own)
                other.rename(here)
                here.rename(other)
                own.rename(here)

        threads.append(threading.Thread(target=exchange))
        threads[0].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("place", "target", "relative"), [("a.jpg", "secret.jpg", "a.jpg"), ("sub", "secrets", "sub/b.jpg")]
)
def test_file_or_folder_swapped_for_link_is_not_followed_out(
    root: Path, swapping: Callable[[str, str], None], place: str, target: str, relative: str
) -> None:
    swapping(place, target)
    contents: list[bytes] = []
    until = time.monotonic() + 60
    # On a busy machine the threads may alternate slowly: continue until the file was read once.
    while len(contents) < 3_000 or (b"whole" not in contents and time.monotonic() < until):
        try:
            contents.append(read(root, relative))
        except OSError:
            contents.append(b"")
    assert b"secret" not in contents
    assert b"whole" in contents, "the file itself was read too"


def test_file_swapped_after_opening_is_not_read(root: Path) -> None:
    with open_below(root, "a.jpg") as file:
        (root / "a.jpg").unlink()
        (root / "a.jpg").symlink_to("../secret.jpg")
        assert file.read() == b"whole"
        assert os.fstat(file.fileno()).st_size == 5
