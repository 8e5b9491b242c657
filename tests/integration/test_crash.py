"""An indexer that is killed again and again ends with the index of an undisturbed one."""

from __future__ import annotations

import os
from pathlib import Path

from sceneseek.bundle import Bundle
from tests.killed_indexer import KilledIndexer

# The full trial is 50 kills over 2,000 images: SCENESEEK_TEST_KILLS=50, and --timeout=0.
KILLS = int(os.environ.get("SCENESEEK_TEST_KILLS", "6"))


def test_after_kills_manifest_count_and_vectors_are_those_of_an_undisturbed_run(bundle: Bundle, tmp_path: Path) -> None:
    verdict = KilledIndexer(bundle.path, tmp_path, images=60 if KILLS < 20 else 2_000, kills=KILLS, seed=3).run()
    assert verdict.kills >= KILLS
    assert verdict.resumed >= 1
