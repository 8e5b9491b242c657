"""A search pipeline and its application, on a copy of the shared index, which one process owns."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.search import Search
from sceneseek.store import VectorStore, open_store
from sceneseek_server.app import create_app
from sceneseek_server.service import AccessSettings
from tests.engines import ENGINES, opened


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    """An empty store, once per engine."""
    with opened(request.param, tmp_path) as engine:
        yield engine


@pytest.fixture(scope="module")
def search(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    """The search pipeline over the gallery."""
    copy = tmp_path_factory.mktemp("searched") / "index"
    shutil.copytree(index_url.removeprefix("file:"), copy)
    pipeline = Search(ModelRegistry(bundle, "cpu"), open_store(f"file:{copy}"))
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="module")
def client(search: Search) -> FlaskClient:
    """The application's test client over `search`."""
    return create_app(search, AccessSettings(show_paths=True)).test_client()
