"""A path that a command cannot open or write gives a one-line error, never a traceback."""

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

# Root bypasses file permissions unless it drops its capabilities.
UNPRIVILEGED = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()


@pytest.fixture(scope="module")
def workspace(bundle: Bundle, index_url: str, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an index, images, a file, and directories without read or write permission."""
    workspace = tmp_path_factory.mktemp("places")
    shutil.copytree(index_url.removeprefix("file:"), workspace / "index")
    shutil.copytree(gallery, workspace / "photos")
    for name in ("file", "index-of-files/generations", "locked/q.csv"):
        (workspace / name).parent.mkdir(exist_ok=True)
        (workspace / name).touch()
    (workspace / "alias/alias-images").mkdir(parents=True)
    (workspace / "read-only").mkdir(mode=0o555)
    (workspace / "locked").chmod(0)
    (workspace / "secret.csv").touch(mode=0)
    return workspace


INDEX = ["index", "photos", "--index"]
USED = ["index", "photos", "--index", "file:index"]


# The arguments of each command, and the path that its error names.
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
# One process runs all commands, to save start-up time; `serve` forks and needs a process of its own.
RUN = """
import json, sys
from tests.command_line import CommandLine
run = CommandLine()
cases = json.load(sys.stdin)
print(json.dumps([vars((run.process if words[0] == "serve" else run)(*words)) for words in cases]))
"""


@pytest.fixture(scope="module")
def outcomes(bundle: Bundle, workspace: Path) -> list[dict[str, Any]]:
    """The results of `CASES`, run without privileges."""
    result = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-c", RUN],
        cwd=workspace,
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
    results: list[dict[str, Any]] = json.loads(result.stdout)
    return results


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: " ".join(CASES[number][0])[:60])
def test_inaccessible_path_is_named_in_a_one_line_error(outcomes: list[dict[str, Any]], number: int) -> None:
    result, (_, name) = outcomes[number], CASES[number]
    assert result["returncode"] in (1, 2), result["stdout"]
    last = result["stderr"].splitlines()[-1]
    assert last.startswith("error: ")
    assert name in last
    assert "bug" not in last
    assert "Traceback" not in result["stderr"]
