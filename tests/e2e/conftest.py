"""What end-to-end tests share: one running service over an index of the gallery."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle


@pytest.fixture(scope="session")
def service_url(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `sceneseek serve`, for tests that only ask it."""
    folder = tmp_path_factory.mktemp("served")
    index = shutil.copytree(index_url.removeprefix("file:"), folder / "index")
    program = Path(sys.executable).with_name("sceneseek")
    command = [program, "serve", "--bundle", bundle.path, "--index", f"file:{index}", "--port", "0"]
    command += ["--feedback", folder / "ratings.jsonl"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        announced = process.stdout.readline()
        assert announced, "it ended without a word"
        yield announced.split()[-1]
        process.terminate()
