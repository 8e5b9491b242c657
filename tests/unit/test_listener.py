"""Where a service listens, and what it says where it cannot."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sceneseek.errors import StartError
from sceneseek_server.listener import listen, url_of

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def reached(listener: socket.socket, *addresses: str) -> list[bool]:
    """Whether somebody listens at that port of each of these addresses."""
    port = listener.getsockname()[1]
    found = []
    for address in addresses:
        try:
            socket.create_connection((address, port), timeout=60).close()
        except OSError:
            found.append(False)
        else:
            found.append(True)
    return found


@pytest.mark.parametrize(
    ("host", "at", "name"),
    [
        ("127.0.0.1", [True, False], "127.0.0.1"),
        ("localhost", [True, False], "127.0.0.1"),
        ("0.0.0.0", [True, False], "localhost"),  # noqa: S104 - for a moment
        pytest.param("::", [True, True], "localhost", marks=needs_ipv6),
        pytest.param("[::]", [True, True], "localhost", marks=needs_ipv6),
        pytest.param("::1", [False, True], "[::1]", marks=needs_ipv6),
        pytest.param("[::1]", [False, True], "[::1]", marks=needs_ipv6),
    ],
)
def test_a_host_is_listened_at(host: str, at: list[bool], name: str) -> None:
    with listen(host, 0) as listener:
        assert reached(listener, "127.0.0.1", "::1")[: 2 if socket.has_dualstack_ipv6() else 1] == at[: len(at)]
        assert url_of(listener) == f"http://{name}:{listener.getsockname()[1]}/"


@pytest.mark.parametrize("host", ["nowhere.invalid", "::1]:80", "127.0.0.1:80", "x" * 300, "[", "a..b", " "])
def test_a_host_that_is_none_is_an_error(host: str) -> None:
    with pytest.raises(StartError, match="choose another --host"):
        listen(host, 0)


def test_a_taken_port_is_an_error_that_names_its_option() -> None:
    with (
        listen("127.0.0.1", 0) as first,
        pytest.raises(StartError, match=r"is taken: .* choose another --metrics-port"),
    ):
        listen("127.0.0.1", first.getsockname()[1], "--metrics-port")


def test_a_unix_socket_is_listened_at_and_one_that_a_killed_service_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for _ in range(2):  # a closed socket leaves its file behind
        with listen(f"unix:{path}", 0) as listener, socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert url_of(listener) == f"unix:{path}"
            assert path.stat().st_mode & 0o666 == 0o666
            with pytest.raises(StartError, match=r"\(taken\): choose another --host unix:PATH"):
                listen(f"unix:{path}", 0)


def test_a_unix_socket_replaces_no_file_of_another_kind(tmp_path: Path) -> None:
    for path in (tmp_path / "notes", tmp_path, tmp_path / "no" / "folder", tmp_path / ("x" * 200)):
        if path.name == "notes":
            path.write_text("keep")
        with pytest.raises(StartError, match="cannot be opened"):
            listen(f"unix:{path}", 0)
    assert (tmp_path / "notes").read_text() == "keep"


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with listen("unix:~/s", 0) as listener:
        assert url_of(listener) == f"unix:{tmp_path}/s"
