"""A command with missing packages names the extra that installs them."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [
        ("gunicorn", ["serve", "--bundle", "."], "serve"),
        ("numpy", ["search", "a dog", "--bundle", "."], "search"),
        ("pathspec", ["index", ".", "--bundle", "."], "index"),
        ("torch", ["train", "alignment", "--images", ".", "--captions", "c.tsv", "--out", "."], "train"),
        ("flask", ["keys", "--help"], "serve"),
        ("mcp", ["mcp"], "mcp"),
    ],
)
def test_command_with_missing_packages_names_extra(missing: str, command: list[str], extra: str) -> None:
    # `None` in `sys.modules` makes an import fail as if the package were not installed.
    program = f"import sys; sys.modules[{missing!r}] = None; from sceneseek.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command], check=False, capture_output=True, text=True, timeout=60
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith(f"error: the command `{command[0]}` needs packages that are not installed ({missing}")
    assert line.endswith(f"pip install 'sceneseek[{extra}]'")


def test_help_lists_commands_with_missing_packages() -> None:
    program = "import sys; sys.modules['flask'] = None; from sceneseek.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--help"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "Not installed: pip install 'sceneseek[" in done.stdout
    assert "search" in done.stdout
