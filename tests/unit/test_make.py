"""Every target that `make help` lists has prerequisites that exist or have a rule."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", TARGETS)
def test_make_target_prerequisites_have_rules(target: str) -> None:
    outcome = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "No rule to make" not in outcome.stderr
    if target not in ("up", "reindex", "down", "compose-check"):  # these fail early without Docker
        assert outcome.returncode == 0, outcome.stderr
