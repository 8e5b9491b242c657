"""`sceneseek index --metadata` and near-duplicates on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from tests.command_line import CommandLine
from tests.drawing import scenery


@pytest.fixture
def photos(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures and a small copy of one; the environment sets bundle and index for every command."""
    monkeypatch.setenv("SCENESEEK_BUNDLE", str(bundle.path))
    monkeypatch.setenv("SCENESEEK_INDEX", f"file:{tmp_path}/index")
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        scenery(seed).save(folder / f"{seed}.png")
    scenery(0).resize((160, 120)).save(folder / "0 small.jpg")
    return folder


def test_index_with_metadata_and_near_duplicates_is_searchable(
    sceneseek: CommandLine, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "about.csv").write_text("path,year\n0.png,1999\n0 small.jpg,1999\ngone.png,1\n")
    indexed = sceneseek("index", photos, "--metadata", tmp_path / "about.csv")
    assert indexed.returncode == 0, indexed.stderr
    assert indexed.stdout.startswith(
        "indexed 4, unchanged 0, skipped 0, near-duplicates 1, metadata written 2\n"
        "metadata fields: year (integer)\n"
        "no image at 1 paths of the metadata: gone.png\n"
    )
    collapsed = sceneseek("search", "circles").stdout.splitlines()
    assert len(collapsed) == 3
    assert sum(line.endswith("  (+1 similar)") for line in collapsed) == 1
    every = sceneseek("search", "circles", "--keep-duplicates").stdout
    assert len(every.splitlines()) == 4
    assert "similar" not in every
    results = json.loads(sceneseek("search", "circles", "--json").stdout)["results"]
    assert [(r["duplicates"], r["metadata"]) for r in results if r["path"].startswith("0")] == [(1, {"year": 1999})]


def test_invalid_metadata_reports_one_line_and_creates_no_index(
    sceneseek: CommandLine, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "about.csv").write_text("path,year:int\n0.png,then\n")
    outcome = sceneseek("index", photos, "--metadata", tmp_path / "about.csv")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("error: line 2 of ")
    assert "year is 'then', which is not a 64-bit integer" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not (tmp_path / "index").exists()


def test_sidecar_metadata_is_returned_in_results(sceneseek: CommandLine, photos: Path) -> None:
    (photos / "1.png.json").write_text('{"title": "Kreise", "place": {"lat": 52.5, "lon": 13.4}}')
    assert sceneseek("index", photos, "--metadata", "sidecars").returncode == 0
    results = json.loads(sceneseek("search", "circles", "--json").stdout)["results"]
    metadata = next(result["metadata"] for result in results if result["path"] == "1.png")
    assert metadata == {"title": "Kreise", "place": {"lat": 52.5, "lon": 13.4}}
