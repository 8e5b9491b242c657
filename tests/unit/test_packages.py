"""The packages depend on each other downwards only, and what serves needs no torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A package may import those named here (and itself).
BELOW = {
    "sceneseek": set(),
    "sceneseek_export": {"sceneseek", "sceneseek_evaluation"},
    "sceneseek_training": {"sceneseek", "sceneseek_export", "sceneseek_evaluation"},
    "sceneseek_indexer": {"sceneseek"},
    "sceneseek_server": {"sceneseek"},
    "sceneseek_evaluation": {"sceneseek", "sceneseek_indexer"},
    "benchmarks": {"sceneseek", "sceneseek_export", "sceneseek_indexer"},
}
HEAVY = {"torch", "transformers", "optimum", "catboost", "onnx", "sklearn", "scipy"}


def folder(package: str) -> Path:
    """Each role's package lies in the folder that is named for the role."""
    return ROOT / package.removeprefix("sceneseek_") / package if "_" in package else ROOT / package


def imported(package: str) -> set[str]:
    found = set()
    for path in folder(package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", sorted(BELOW))
def test_a_package_imports_only_packages_below_it(package: str) -> None:
    assert imported(package) & set(BELOW) <= BELOW[package] | {package}


@pytest.mark.parametrize("package", ["sceneseek", "sceneseek_indexer", "sceneseek_server", "sceneseek_evaluation"])
def test_what_serves_and_indexes_imports_nothing_heavy(package: str) -> None:
    # Agreement with ratings is scipy's to compute; what else evaluation does must work without it.
    assert imported(package) & HEAVY <= ({"scipy"} if package == "sceneseek_evaluation" else set())


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
        "import sys, sceneseek.search, sceneseek.cli, sceneseek_indexer.build, sceneseek_server.app;"
        "import sceneseek_evaluation.command, sceneseek_evaluation.ratings_report, sceneseek_evaluation.retrieval;"
        f"sys.exit(sorted({HEAVY!r} & set(sys.modules)) != [])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0


def test_the_command_line_and_the_servers_master_load_no_numpy() -> None:
    # The master forks, which is safe only before any library has threads; and --help should answer at once.
    program = (
        "import sys, sceneseek.cli, sceneseek_indexer.command, sceneseek_server.command, sceneseek_server.process;"
        "sys.exit(sorted({'numpy', 'onnxruntime'} & set(sys.modules)) != [])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0
