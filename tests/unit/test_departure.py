"""What a client does not take at once is kept and sent later, in its order; who takes too little is found out."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import server.uptake
from server.departure import Departure, Memory
from server.uptake import Uptake, cut_off

MUCH = bytes(range(256)) * 40_000


@pytest.fixture
def memory() -> Memory:
    return Memory(2 * len(MUCH))


@pytest.fixture
def ends(memory: Memory) -> Iterator[tuple[Departure, socket.socket]]:
    """The service's end of a connection, and a client's that takes little at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(listener.getsockname())
        with Departure(listener.accept()[0], memory) as served:
            yield served, client


def taken(served: Departure, client: socket.socket, count: int) -> bytes:
    """So many bytes, while the thread that polls does its part."""
    received = bytearray()
    while len(received) < count:
        if served.left:
            served.setblocking(False)
            served.go_on()
        received += client.recv(1 << 20)
    assert not served.left
    return bytes(received)


def test_a_thread_does_not_wait_for_who_does_not_read(ends: tuple[Departure, socket.socket], tmp_path: Path) -> None:
    served, client = ends
    (tmp_path / "file").write_bytes(MUCH)
    begun = time.monotonic()
    served.sendall(b"head")
    with (tmp_path / "file").open("rb") as file:
        assert served.sendfile(file, 5, 9_000_000) == 9_000_000
    served.sendall(MUCH)
    assert time.monotonic() - begun < 0.5
    assert served.left
    assert taken(served, client, 4 + 9_000_000 + len(MUCH)) == b"head" + MUCH[5:9_000_005] + MUCH


def test_beyond_the_memory_for_all_it_waits_until_more_is_taken(
    ends: tuple[Departure, socket.socket], memory: Memory
) -> None:
    served, client = ends
    memory.take(2 * len(MUCH))
    sending = threading.Thread(target=served.sendall, args=(MUCH,))
    sending.start()
    received = bytearray()
    while len(received) < len(MUCH):
        received += client.recv(1 << 20)
    sending.join()
    assert bytes(received) == MUCH
    memory.take(-1)
    assert not memory.short


def test_what_is_closed_gives_its_memory_back(ends: tuple[Departure, socket.socket], memory: Memory) -> None:
    served, _ = ends
    served.sendall(MUCH)
    served.close()
    assert not served.left
    memory.take(2 * len(MUCH))
    assert not memory.short


def test_a_file_that_became_shorter_breaks_the_connection(
    ends: tuple[Departure, socket.socket], tmp_path: Path
) -> None:
    served, _ = ends
    (tmp_path / "file").write_bytes(b"short")
    with (tmp_path / "file").open("rb") as file, pytest.raises(BrokenPipeError):
        served.sendfile(file, 0, 100)


@pytest.mark.parametrize("read", [0, 3000], ids=["nothing", "little"])
def test_who_takes_too_little_is_found_out_and_can_be_cut_off(
    ends: tuple[Departure, socket.socket], monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    monkeypatch.setattr(server.uptake, "PATIENCE", 0.3)
    served, client = ends
    uptake = Uptake(served)
    served.sendall(MUCH)
    assert not uptake.too_slow()
    deadline = time.monotonic() + 5
    while not uptake.too_slow():
        assert time.monotonic() < deadline
        if read:
            client.recv(read // 20)
        time.sleep(0.05)
    cut_off(served)
    with pytest.raises(BrokenPipeError):
        served.go_on()


def test_who_takes_all_may_pause(ends: tuple[Departure, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.uptake, "PATIENCE", 0.1)
    served, client = ends
    uptake = Uptake(served)
    served.sendall(b"answer")
    client.recv(10)
    time.sleep(0.3)
    assert not uptake.too_slow()
