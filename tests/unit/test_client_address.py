"""Where a service is, as a person types it; and a key that is none is refused without being shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sceneseek.client import Client
from sceneseek.client.connection import Address
from sceneseek.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "address", "local"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", True),
        (" http://localhost:8080/\n", "http://localhost:8080", True),
        ("http://[::1]:8080", "http://[::1]:8080", True),
        ("HTTPS://Photos.Example", "https://photos.example", False),
        ("https://example.org/photos/", "https://example.org/photos", False),
        ("http://localhost.example", "http://localhost.example", False),
    ],
)
def test_an_address_is_read(text: str, address: str, local: bool) -> None:
    read = Address.parse(text)
    assert (str(read), read.local) == (address, local)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:8080",
        "file:index",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host/?q=x",
        "http://host/#top",
        "http://user:secret@host",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Address.parse(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", " ", "two words", "sécret", "secret\r\nX: y"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(InvalidRequest, match="the key is empty or contains") as caught:
        Client("http://localhost", key=key)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("given", [{"timeout": 0}, {"timeout": float("inf")}, {"timeout": -1}, {"retries": -1}])
def test_numbers_out_of_their_range_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest):
        Client("http://localhost", **given)  # type: ignore[arg-type]


def test_importing_the_client_loads_nothing_that_searches() -> None:
    heavy = {"numpy", "onnxruntime", "flask", "click", "PIL", "tokenizers", "qdrant_edge"}
    program = f"import sys\nfrom sceneseek.client import Client\nsys.exit(sorted({heavy!r} & set(sys.modules)) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
