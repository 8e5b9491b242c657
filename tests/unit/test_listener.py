"""The addresses that a service listens on, and the errors for those that it cannot use."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sceneseek.errors import StartError
from sceneseek_server.listener import listen, url_of

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def reachable(listener: socket.socket, *addresses: str) -> list[bool]:
    """Return for each address whether the listener's port accepts connections."""
    port = listener.getsockname()[1]
    results = []
    for address in addresses:
        try:
            socket.create_connection((address, port), timeout=60).close()
        except OSError:
            results.append(False)
        else:
            results.append(True)
    return results


@pytest.mark.parametrize(
    ("host", "expected", "name"),
    [
        ("127.0.0.1", [True, False], "127.0.0.1"),
        ("localhost", [True, False], "127.0.0.1"),
        ("0.0.0.0", [True, False], "localhost"),  # noqa: S104 - only during the test
        pytest.param("::", [True, True], "localhost", marks=needs_ipv6),
        pytest.param("[::]", [True, True], "localhost", marks=needs_ipv6),
        pytest.param("::1", [False, True], "[::1]", marks=needs_ipv6),
        pytest.param("[::1]", [False, True], "[::1]", marks=needs_ipv6),
    ],
)
def test_listen_binds_the_addresses_of_the_host(host: str, expected: list[bool], name: str) -> None:
    with listen(host, 0) as listener:
        assert (
            reachable(listener, "127.0.0.1", "::1")[: 2 if socket.has_dualstack_ipv6() else 1]
            == expected[: len(expected)]
        )
        assert url_of(listener) == f"http://{name}:{listener.getsockname()[1]}/"


@pytest.mark.parametrize("host", ["nowhere.invalid", "::1]:80", "127.0.0.1:80", "x" * 300, "[", "a..b", " "])
def test_invalid_host_raises(host: str) -> None:
    with pytest.raises(StartError, match="choose another --host"):
        listen(host, 0)


def test_port_in_use_raises_and_names_its_option() -> None:
    with (
        listen("127.0.0.1", 0) as first,
        pytest.raises(StartError, match=r"is taken: .* choose another --metrics-port"),
    ):
        listen("127.0.0.1", first.getsockname()[1], "--metrics-port")


def test_unix_socket_is_opened_and_replaces_a_stale_one(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for _ in range(2):  # a closed socket leaves its file behind
        with listen(f"unix:{path}", 0) as listener, socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert url_of(listener) == f"unix:{path}"
            assert path.stat().st_mode & 0o666 == 0o666
            with pytest.raises(StartError, match=r"\(taken\): choose another --host unix:PATH"):
                listen(f"unix:{path}", 0)


def test_unix_socket_does_not_replace_other_files(tmp_path: Path) -> None:
    for path in (tmp_path / "notes", tmp_path, tmp_path / "no" / "folder", tmp_path / ("x" * 200)):
        if path.name == "notes":
            path.write_text("keep")
        with pytest.raises(StartError, match="cannot be opened"):
            listen(f"unix:{path}", 0)
    assert (tmp_path / "notes").read_text() == "keep"


def test_tilde_in_a_socket_path_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with listen("unix:~/s", 0) as listener:
        assert url_of(listener) == f"unix:{tmp_path}/s"
