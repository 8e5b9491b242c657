"""An indexer that is killed repeatedly builds the same index as an uninterrupted one."""

from __future__ import annotations

import os
from pathlib import Path

from sceneseek.bundle import Bundle
from tests.killed_indexer import KilledIndexer

# For the full test of 50 kills over 2,000 images, set SCENESEEK_TEST_KILLS=50 and pass --timeout=0.
KILLS = int(os.environ.get("SCENESEEK_TEST_KILLS", "6"))


def test_killed_indexer_builds_the_same_index_as_an_uninterrupted_run(bundle: Bundle, tmp_path: Path) -> None:
    outcome = KilledIndexer(bundle.path, tmp_path, images=60 if KILLS < 20 else 2_000, kills=KILLS, seed=3).run()
    assert outcome.kills >= KILLS
    assert outcome.resumed >= 1
