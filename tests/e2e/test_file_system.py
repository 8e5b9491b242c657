"""Files and directories that a command cannot open or write are one line each, and never a bug."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sceneseek.bundle import Bundle
from tests.conftest import ROOT

# Root ignores permissions unless it runs without its capabilities.
UNPRIVILEGED = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()


@pytest.fixture(scope="module")
def place(bundle: Bundle, index_url: str, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an index, pictures, a file, and directories that cannot be written or read."""
    place = tmp_path_factory.mktemp("places")
    shutil.copytree(index_url.removeprefix("file:"), place / "index")
    shutil.copytree(gallery, place / "photos")
    for name in ("file", "index-of-files/generations", "locked/q.csv"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).touch()
    (place / "alias/alias-images").mkdir(parents=True)
    (place / "read-only").mkdir(mode=0o555)
    (place / "locked").chmod(0)
    (place / "secret.csv").touch(mode=0)
    return place


INDEX = ["index", "photos", "--index"]
USED = ["index", "photos", "--index", "file:index"]


# What is run, and the name that its error says.
CASES: list[tuple[list[str], str]] = [
    *[([*INDEX, f"file:{name}"], name) for name in ("read-only", "read-only/x", "locked", "locked/x")],
    *[([*INDEX, f"file:{name}"], name) for name in ("file", "file/x", "index-of-files", "alias", "x" * 300)],
    *[(["index", "status", "--index", f"file:{name}"], name) for name in ("locked", "file", "file/x")],
    *[(["index", "rollback", "--index", f"file:{name}"], name) for name in ("locked", "file", "read-only")],
    *[(["search", "dog", "--index", f"file:{name}"], name) for name in ("locked", "file", "file/x", "alias")],
    *[(["index", "move", f"file:{name}", "file:new"], name) for name in ("locked", "file")],
    *[(["index", "move", "file:index", f"file:{name}"], name) for name in ("read-only/x", "file")],
    *[([*USED, "--report", name], name) for name in ("read-only/x", "locked/x", "file/x", "photos", "secret.csv")],
    *[([*USED, "--metadata", name], name) for name in ("secret.csv", "locked/q.csv", "file/x.csv", "no.csv")],
    *[([*USED, "--captions", name], name) for name in ("secret.csv", "locked/q.csv", "file/x", "no.csv", "photos")],
    *[([*USED, "--bundle", name], name) for name in ("file", "file/x", "locked", "no", "read-only")],
    *[(["index", name, "--index", "file:index"], name) for name in ("locked", "file", "file/x", "no")],
    *[(["search", "--index", "file:index", "--queries", name], name) for name in ("secret.csv", "file/x", "photos")],
    *[(["search", "--index", "file:index", "--image", name], name) for name in ("secret.csv", "file/x", "photos")],
    *[(["export", "--out", name], name) for name in ("file",)],
    *[(["serve", "--port", "0", "--index", f"file:{name}"], name) for name in ("locked", "file")],
    *[(["serve", "--port", "0", "--feedback", name], name) for name in ("read-only/x.sqlite", "file/x", "photos")],
    *[(["keys", "add", "me", "--api-keys", name], name) for name in ("read-only/x", "file/x", "photos")],
]
# In one process, which spares each its start; a server forks, and needs one of its own.
RUN = """
import json, sys
from tests.command_line import CommandLine
run = CommandLine()
cases = json.load(sys.stdin)
print(json.dumps([vars((run.process if words[0] == "serve" else run)(*words)) for words in cases]))
"""


@pytest.fixture(scope="module")
def outcomes(bundle: Bundle, place: Path) -> list[dict[str, Any]]:
    """What became of each of `CASES`, run without privileges."""
    done = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-c", RUN],
        cwd=place,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCENESEEK_BUNDLE": str(bundle.path),
            "SCENESEEK_INDEX": "file:index",
        },
        input=json.dumps([words for words, _ in CASES]),
        stdout=subprocess.PIPE,
        text=True,
        timeout=240,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: " ".join(CASES[number][0])[:60])
def test_what_cannot_be_opened_or_written_is_named(outcomes: list[dict[str, Any]], number: int) -> None:
    done, (_, said) = outcomes[number], CASES[number]
    assert done["returncode"] in (1, 2), done["stdout"]
    last = done["stderr"].splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert "bug" not in last
    assert "Traceback" not in done["stderr"]
