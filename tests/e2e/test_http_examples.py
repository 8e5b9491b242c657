"""The examples of docs/how-to/search-over-http.md and the curl commands of refine-a-search.md run against a service."""

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
# An answer that is an error would else go unseen.
STRICT = 'set -eu\ncurl() { command curl --silent --show-error --fail-with-body "$@"; echo; }\n'


@pytest.fixture
def folder(tmp_path: Path, gallery: Path) -> Path:
    """Where the examples run: it has the picture that they search by."""
    shutil.copy(gallery / "scenes/sea.jpg", tmp_path / "photo.jpg")
    return tmp_path


def example(language: str, service_url: str) -> str:
    """The example, of that service and of an image that it has."""
    with Client(service_url, timeout=60) as client:
        image = client.search("a red circle").results[0].id
    return EXAMPLES[language].replace(ADDRESS, service_url).replace(IMAGE, image)


def output(program: list[str], folder: Path) -> str:
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_an_example_for_each_of_three_languages() -> None:
    assert set(EXAMPLES) >= {"sh", "python", "javascript"}
    for text in EXAMPLES.values():
        assert ADDRESS in text
        for said in ("search", "width", "feedback", "image"):
            assert said in text


def test_the_examples_with_curl_and_on_the_command_line_run(service_url: str, folder: Path) -> None:
    path = f'PATH="{Path(sys.executable).parent}:$PATH"\n'
    printed = output(["bash", "-c", STRICT + path + example("sh", service_url)], folder)
    assert printed.count('"results":[{') == 3
    assert '"stored":true' in printed.replace(" ", "")
    assert re.search(r"^ 1  \d\.\d\d  ", printed, re.MULTILINE)


def test_the_commands_with_curl_that_refine_a_search_run(service_url: str, folder: Path) -> None:
    commands = re.findall(r"^curl .*\n", REFINE, re.MULTILINE)
    printed = output(["bash", "-c", STRICT + "".join(commands).replace(ADDRESS, service_url)], folder)
    assert (printed.count('"results":[{'), printed.count('"embedding":[')) == (2, 3)


def test_the_example_in_python_runs(service_url: str, folder: Path) -> None:
    printed = output([sys.executable, "-c", example("python", service_url)], folder)
    assert re.match(r"1 0\.\d+ \w+ http://", printed)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_example_in_javascript_runs(service_url: str, folder: Path) -> None:
    (folder / "example.mjs").write_text(example("javascript", service_url), encoding="utf-8")
    printed = output(["node", "example.mjs"], folder)
    assert re.match(r"1 0\.\d+ http://", printed)
