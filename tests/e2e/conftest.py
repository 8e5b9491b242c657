"""What end-to-end tests share: a running service over an index of the drawn gallery, and the demo gallery."""

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
    """The address of `sceneseek serve`, for tests that only ask it."""
    folder = tmp_path_factory.mktemp("served")
    index = shutil.copytree(index_url.removeprefix("file:"), folder / "index")
    options = ("--bundle", bundle.path, "--index", f"file:{index}", "--feedback", folder / "ratings.sqlite")
    with running(*options) as service:
        yield service.url


@pytest.fixture(scope="session")
def demo_gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo gallery, as `make demo` fetches it, once for all test processes. Read only."""
    if shutil.which("apt-get") is None:
        pytest.skip("the demo gallery is a Debian package, and this machine has no apt-get")
    gallery, lock = shared_by_processes(tmp_path_factory, "demo")
    with lock:  # the script fetches nothing if the gallery is there
        fetched = subprocess.run(
            [ROOT / "scripts/demo-gallery", gallery], capture_output=True, text=True, check=False, timeout=200
        )
    if fetched.returncode:
        pytest.skip(f"the demo gallery could not be fetched: {fetched.stderr.strip()}")
    return gallery


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium; tests skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra dev has it)")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium is installed (apt-get install chromium, or name one in CHROMIUM)")
    # Chromium's own sandbox does not work for root, as which containers run tests.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as engine:
        found = engine.chromium.launch(executable_path=chromium, args=options)
        yield found
        found.close()
