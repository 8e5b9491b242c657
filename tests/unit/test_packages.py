"""Import rules: package layers, no heavy imports at runtime, no private gunicorn modules."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A package may import the packages listed here, and itself.
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
    """The folder of a package: sceneseek_server is in server/, and so on."""
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
def test_package_imports_only_lower_layers(package: str) -> None:
    assert imported(package) & set(BELOW) <= BELOW[package] | {package}


@pytest.mark.parametrize("package", ["sceneseek", "sceneseek_indexer", "sceneseek_server", "sceneseek_evaluation"])
def test_runtime_packages_import_no_heavy_dependencies(package: str) -> None:
    # Only the agreement with ratings uses scipy; the rest of evaluation must work without it.
    assert imported(package) & HEAVY <= ({"scipy"} if package == "sceneseek_evaluation" else set())


def test_server_imports_no_private_gunicorn_modules() -> None:
    private = ("gunicorn.workers", "gunicorn.arbiter", "gunicorn.http")
    for path in (ROOT / "server").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith(private)], path


def test_core_package_does_not_import_flask() -> None:
    assert "flask" not in imported("sceneseek")


def test_importing_sceneseek_disables_onnxruntime_telemetry() -> None:
    program = "import sceneseek, os, sys; sys.exit(os.environ['ORT_DISABLE_TELEMETRY'] != '1')"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT, env=environment).returncode == 0


def test_search_does_not_import_torch() -> None:
    program = (
        "import sys, sceneseek.search, sceneseek.cli, sceneseek_indexer.build, sceneseek_server.app;"
        "import sceneseek_evaluation.command, sceneseek_evaluation.ratings_report, sceneseek_evaluation.retrieval;"
        f"sys.exit(sorted({HEAVY!r} & set(sys.modules)) != [])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0


def test_cli_and_server_master_do_not_import_numpy() -> None:
    # The master forks, which is safe only before libraries start threads; --help must be fast.
    program = (
        "import sys, sceneseek.cli, sceneseek_indexer.command, sceneseek_server.command, sceneseek_server.process;"
        "sys.exit(sorted({'numpy', 'onnxruntime'} & set(sys.modules)) != [])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0
