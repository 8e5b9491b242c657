"""The rooms depend on each other downwards only, and what serves needs no torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A room may import those named here (and itself).
BELOW = {
    "sceneseek": set(),
    "export": {"sceneseek", "evaluation"},
    "training": {"sceneseek", "export", "evaluation"},
    "indexer": {"sceneseek"},
    "server": {"sceneseek"},
    "evaluation": {"sceneseek", "indexer"},
    "benchmarks": {"sceneseek", "indexer", "export"},
}
HEAVY = {"torch", "transformers", "optimum", "catboost", "onnx", "sklearn", "scipy"}


def imported(room: str) -> set[str]:
    found = set()
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", sorted(BELOW))
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    assert imported(room) & set(BELOW) <= BELOW[room] | {room}


@pytest.mark.parametrize("room", ["sceneseek", "indexer", "server", "evaluation"])
def test_what_serves_and_indexes_imports_nothing_heavy(room: str) -> None:
    # Agreement with ratings is scipy's to compute; what else evaluation does must work without it.
    assert imported(room) & HEAVY <= ({"scipy"} if room == "evaluation" else set())


def test_nothing_stands_on_private_parts_of_gunicorn() -> None:
    private = ("gunicorn.workers", "gunicorn.arbiter", "gunicorn.http")
    for path in (ROOT / "server").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith(private)], path


def test_the_library_knows_nothing_of_flask() -> None:
    assert "flask" not in imported("sceneseek")


def test_the_runtimes_telemetry_is_off_wherever_ours_is_imported() -> None:
    program = "import sceneseek, os, sys; sys.exit(os.environ['ORT_DISABLE_TELEMETRY'] != '1')"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT, env=environment).returncode == 0


def test_searching_loads_no_torch() -> None:
    program = (
        "import sys, sceneseek.search, sceneseek.cli, indexer.build, server.app;"
        "import evaluation.command, evaluation.ratings, evaluation.retrieval;"
        f"sys.exit(sorted({HEAVY!r} & set(sys.modules)) != [])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0


def test_the_command_line_and_the_servers_master_load_no_numpy() -> None:
    # The master forks, which is safe only before any library has threads; and --help should answer at once.
    program = (
        "import sys, sceneseek.cli, indexer.command, server.command, server.process;"
        "sys.exit(sorted({'numpy', 'onnxruntime'} & set(sys.modules)) != [])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0


def test_every_package_of_a_room_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = {path.parent.relative_to(ROOT) for room in BELOW for path in (ROOT / room).rglob("__init__.py")}
    assert set(listed) == {".".join(package.parts) for package in found}
