"""Fixtures for end-to-end tests: a running service over the drawn gallery, the demo gallery and a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sceneseek.bundle import Bundle
from tests.conftest import ROOT, shared_by_processes
from tests.running import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def service_url(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a running `sceneseek serve`, for tests that only send it requests."""
    folder = tmp_path_factory.mktemp("served")
    index = shutil.copytree(index_url.removeprefix("file:"), folder / "index")
    options = ("--bundle", bundle.path, "--index", f"file:{index}", "--feedback", folder / "ratings.sqlite")
    with running(*options) as service:
        yield service.url


@pytest.fixture(scope="session")
def demo_gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo gallery of `make demo`, fetched once for all test processes. Read only."""
    if shutil.which("apt-get") is None:
        pytest.skip("the demo gallery is a Debian package, and this machine has no apt-get")
    gallery, lock = shared_by_processes(tmp_path_factory, "demo")
    with lock:  # the script does nothing if the gallery exists
        fetched = subprocess.run(
            [ROOT / "scripts/demo-gallery", gallery], capture_output=True, text=True, check=False, timeout=200
        )
    if fetched.returncode:
        pytest.skip(f"the demo gallery could not be fetched: {fetched.stderr.strip()}")
    return gallery


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium; tests are skipped if it is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra dev has it)")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium is installed (apt-get install chromium, or name one in CHROMIUM)")
    # Chromium's sandbox does not work for root, which runs the tests in containers.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as engine:
        instance = engine.chromium.launch(executable_path=chromium, args=options)
        yield instance
        instance.close()
