"""Qdrant settings are read from the environment and validated, and never show the API key."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.errors import InvalidRequest
from sceneseek.store.qdrant import QdrantSettings

PREFIX = "SCENESEEK_QDRANT_"


def test_empty_environment_yields_the_defaults() -> None:
    assert QdrantSettings.from_environment({"OTHER": "x", f"{PREFIX}SHARDS": " "}) == QdrantSettings()


def test_every_setting_has_an_environment_variable(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("")
    settings = QdrantSettings.from_environment(
        {
            f"{PREFIX}API_KEY": "key",
            f"{PREFIX}ALIAS": "photos-2",
            f"{PREFIX}PREFER_GRPC": "false",
            f"{PREFIX}GRPC_PORT": "7334",
            f"{PREFIX}CA_CERT": str(pem),
            f"{PREFIX}TIMEOUT": "5",
            f"{PREFIX}PATIENCE": "7",
            f"{PREFIX}SHARDS": "6",
            f"{PREFIX}REPLICAS": "2",
            f"{PREFIX}WRITE_CONSISTENCY": "1",
            f"{PREFIX}QUANTIZATION": "INT8",
            f"{PREFIX}QUERY_TIMEOUT": "3",
        }
    )
    assert settings == QdrantSettings("key", "photos-2", "no", 7334, pem, 5, 7.0, 6, 2, 1, "int8", 3)


def test_settings_for_searching_use_http_without_patience() -> None:
    writing = QdrantSettings(api_key="key", prefer_grpc="yes", timeout=300, patience=3600, query_timeout=3)
    searching = writing.for_searching()
    assert (searching.timeout, searching.prefer_grpc) == (3, "no")
    assert searching.patience <= 1
    assert (searching.api_key, searching.alias) == ("key", "images")


def test_repr_and_str_mask_the_api_key() -> None:
    settings = QdrantSettings(api_key="hunter2")
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "hunter2" not in text
        assert "api_key='***'" in text or "api_key=***" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHARDS", "-1"),
        ("SHARDS", "many"),
        ("SHARDS", "9" * 5000),
        ("TIMEOUT", "0"),
        ("TIMEOUT", "1.5"),
        ("QUERY_TIMEOUT", "0"),
        ("QUERY_TIMEOUT", "61"),
        ("QUANTIZATION", "int4"),
        ("PREFER_GRPC", "perhaps"),
        ("CA_CERT", "/nowhere/ca.pem"),
        ("ALIAS", "a/b"),
        ("ALIAS", "ä"),
        ("GRPC_PORT", "70000"),
        ("REPLICAS", "²"),
        ("TIEMOUT", "5"),
    ],
)
def test_invalid_setting_error_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{PREFIX}{name}"):
        QdrantSettings.from_environment({f"{PREFIX}{name}": value})
