"""What end-to-end tests share: one running service over an index of the gallery."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from sceneseek.bundle import Bundle
from tests.running import running


@pytest.fixture(scope="session")
def service_url(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `sceneseek serve`, for tests that only ask it."""
    folder = tmp_path_factory.mktemp("served")
    index = shutil.copytree(index_url.removeprefix("file:"), folder / "index")
    options = ("--bundle", bundle.path, "--index", f"file:{index}", "--feedback", folder / "ratings.sqlite")
    with running(*options) as service:
        yield service.url
