"""Run the examples of docs/how-to/search-over-http.md and refine-a-search.md against a service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sceneseek.client import Client

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "search-over-http.md").read_text(encoding="utf-8")
REFINE = (ROOT / "docs" / "how-to" / "refine-a-search.md").read_text(encoding="utf-8")
EXAMPLES: dict[str, str] = dict(re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
# Placeholders in the examples.
ADDRESS = "http://127.0.0.1:8080"
IMAGE = "bf8013b6-61f9-5d1d-94d6-cfa2c149805e"
# Makes an error response fail the script.
STRICT = 'set -eu\ncurl() { command curl --silent --show-error --fail-with-body "$@"; echo; }\n'


@pytest.fixture
def folder(tmp_path: Path, gallery: Path) -> Path:
    """The working directory of the examples, with the image that they search by."""
    shutil.copy(gallery / "scenes/sea.jpg", tmp_path / "photo.jpg")
    return tmp_path


def example(language: str, service_url: str) -> str:
    """The example with the URL of the service and the id of one of its images."""
    with Client(service_url, timeout=60) as client:
        image = client.search("a red circle").results[0].id
    return EXAMPLES[language].replace(ADDRESS, service_url).replace(IMAGE, image)


def output(program: list[str], folder: Path) -> str:
    completed = subprocess.run(
        program, cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=os.environ
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def test_search_over_http_has_examples_in_three_languages() -> None:
    assert set(EXAMPLES) >= {"sh", "python", "javascript"}
    for text in EXAMPLES.values():
        assert ADDRESS in text
        for word in ("search", "width", "feedback", "image"):
            assert word in text


def test_shell_examples_run(service_url: str, folder: Path) -> None:
    path = f'PATH="{Path(sys.executable).parent}:$PATH"\n'
    printed = output(["bash", "-c", STRICT + path + example("sh", service_url)], folder)
    assert printed.count('"results":[{') == 3
    assert '"stored":true' in printed.replace(" ", "")
    assert re.search(r"^ 1  \d\.\d\d  ", printed, re.MULTILINE)


def test_curl_commands_of_refine_a_search_run(service_url: str, folder: Path) -> None:
    commands = re.findall(r"^curl .*\n", REFINE, re.MULTILINE)
    printed = output(["bash", "-c", STRICT + "".join(commands).replace(ADDRESS, service_url)], folder)
    assert (printed.count('"results":[{'), printed.count('"embedding":[')) == (2, 3)


def test_python_example_runs(service_url: str, folder: Path) -> None:
    printed = output([sys.executable, "-c", example("python", service_url)], folder)
    assert re.match(r"1 0\.\d+ \w+ http://", printed)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_example_runs(service_url: str, folder: Path) -> None:
    (folder / "example.mjs").write_text(example("javascript", service_url), encoding="utf-8")
    printed = output(["node", "example.mjs"], folder)
    assert re.match(r"1 0\.\d+ http://", printed)
