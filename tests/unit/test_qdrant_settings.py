"""The settings of a Qdrant server are read from the environment, checked, and never show the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.errors import InvalidRequest
from sceneseek.store.qdrant import QdrantSettings

P = "SCENESEEK_QDRANT_"


def test_an_empty_environment_gives_the_defaults() -> None:
    assert QdrantSettings.from_environment({"OTHER": "x", f"{P}SHARDS": " "}) == QdrantSettings()


def test_every_setting_has_a_variable(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("")
    found = QdrantSettings.from_environment(
        {
            f"{P}API_KEY": "key",
            f"{P}ALIAS": "photos-2",
            f"{P}PREFER_GRPC": "false",
            f"{P}GRPC_PORT": "7334",
            f"{P}CA_CERT": str(pem),
            f"{P}TIMEOUT": "5",
            f"{P}PATIENCE": "7",
            f"{P}SHARDS": "6",
            f"{P}REPLICAS": "2",
            f"{P}WRITE_CONSISTENCY": "1",
            f"{P}QUANTIZATION": "INT8",
            f"{P}QUERY_TIMEOUT": "3",
        }
    )
    assert found == QdrantSettings("key", "photos-2", "no", 7334, pem, 5, 7.0, 6, 2, 1, "int8", 3)


def test_a_process_that_searches_waits_for_nothing_and_speaks_http() -> None:
    writing = QdrantSettings(api_key="key", prefer_grpc="yes", timeout=300, patience=3600, query_timeout=3)
    searching = writing.for_searching()
    assert (searching.timeout, searching.prefer_grpc) == (3, "no")
    assert searching.patience <= 1
    assert (searching.api_key, searching.alias) == ("key", "images")


def test_the_key_is_in_no_text_of_the_settings() -> None:
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
def test_a_wrong_value_or_name_is_refused_and_the_variable_named(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{P}{name}"):
        QdrantSettings.from_environment({f"{P}{name}": value})
