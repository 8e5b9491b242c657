"""Service addresses are parsed from user input, and invalid keys are rejected without being shown."""

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
def test_address_is_parsed_and_normalised(text: str, address: str, local: bool) -> None:
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
def test_invalid_address_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Address.parse(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", " ", "two words", "sécret", "secret\r\nX: y"])
def test_key_invalid_in_header_is_rejected_without_being_shown(key: str) -> None:
    with pytest.raises(InvalidRequest, match="the key is empty or contains") as caught:
        Client("http://localhost", key=key)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("inf")}, {"timeout": -1}, {"retries": -1}])
def test_timeout_and_retries_out_of_range_are_rejected(options: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest):
        Client("http://localhost", **options)  # type: ignore[arg-type]


def test_client_import_loads_no_heavy_modules() -> None:
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
