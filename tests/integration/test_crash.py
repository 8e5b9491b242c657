"""Killed again and again, the indexer ends where an undisturbed one does. `benchmarks/crash.py` is the full trial."""

from __future__ import annotations

from pathlib import Path

from benchmarks.crash import CrashTest
from sceneseek.bundle import Bundle


def test_six_kills_later_manifest_count_and_vectors_are_those_of_an_undisturbed_run(
    bundle: Bundle, tmp_path: Path
) -> None:
    verdict = CrashTest(bundle.path, tmp_path, images=60, kills=6, seed=3, tell=lambda _: None).run()
    assert verdict.kills >= 6
    assert verdict.resumed >= 1
