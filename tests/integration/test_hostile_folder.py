"""A folder of hostile files: each is reported with a reason, and none crashes, hangs or exhausts memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from sceneseek.payload import path_fields
from tests.hostile import build_hostile

# VmHWM is the peak memory of this process; the peak of getrusage starts at that of its parent.
PROGRAM = """
import json, sys
from pathlib import Path
from sceneseek_indexer.build import BuildOptions, index_folder
from sceneseek.bundle import Bundle
from sceneseek.store import open_store

store = open_store(sys.argv[3])
report = index_folder(Path(sys.argv[1]), Bundle.load(Path(sys.argv[2])), store, BuildOptions("cpu", workers=2))
status = Path("/proc/self/status").read_text()
peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
collection = store.open(store.live())
indexed = [record.payload for record in collection.scroll()]
print(json.dumps({"peak": peak, "report": report.to_json(), "indexed": indexed}))
"""


@pytest.mark.timeout(300)
def test_hostile_files_are_reported_and_memory_stays_under_a_gigabyte(bundle: Bundle, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    kinds = build_hostile(photos)
    assert sum(1 for outcome in kinds.values() if outcome is not None) >= 40
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, photos, bundle.path, f"file:{tmp_path}/index"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    expected = {path_fields(name)["path"]: outcome for name, outcome in kinds.items()}
    skipped = {entry["path"]: entry["reason"] for entry in result["report"]["skipped"]}
    assert skipped == {name: outcome for name, outcome in expected.items() if outcome is not None}
    assert all(entry["what"].isprintable() for entry in result["report"]["skipped"])
    assert {payload["path"] for payload in result["indexed"]} == {
        name for name, outcome in expected.items() if outcome is None
    }
    assert result["peak"] < 1_000_000_000
    lines = (tmp_path / "index" / "reports" / f"{result['report']['generation']}.jsonl").read_text().splitlines()
    outcomes = {line["path"]: line["outcome"] for line in map(json.loads, lines) if line["kind"] == "file"}
    assert outcomes.keys() == expected.keys()
    assert {name for name, outcome in outcomes.items() if outcome == "skipped"} == skipped.keys()
