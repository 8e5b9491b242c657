"""`sceneseek index` end to end: dry runs, pruning, watching, reports and usage errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from sceneseek.bundle import Bundle
from tests.command_line import CommandLine
from tests.engines import adopted

SCENESEEK = Path(sys.executable).with_name("sceneseek")


@pytest.fixture(autouse=True)
def environment(bundle: Bundle, index_url: str, gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands in a directory with `photos` and its `index`, with the bundle set by environment variable."""
    shutil.copytree(gallery, tmp_path / "photos")
    shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index")
    adopted(tmp_path / "index", tmp_path / "photos", gallery)
    monkeypatch.setenv("SCENESEEK_BUNDLE", str(bundle.path))
    monkeypatch.chdir(tmp_path)


def test_dry_run_reports_changes_and_prune_removes_missing_images(sceneseek: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "photos/scenes/sea.jpg").unlink()
    (tmp_path / "photos/shapes/red circle.png").rename(tmp_path / "photos/circle.png")
    dry_run = sceneseek("index", "photos", "--dry-run")
    assert dry_run.stdout.splitlines() == [
        "a run would have: indexed 0, unchanged 10, skipped 0, renamed 1",
        "  renamed circle.png (from shapes/red circle.png)",
        "gone 1, deleted or excluded: pass --prune to remove them from the index",
        "nothing was written",
    ]
    assert sceneseek("index", "photos", "--report", "report.jsonl").returncode == 0
    pruned = sceneseek("index", "photos", "--prune", "--json", "--exclude", "shapes/")
    counts = json.loads(pruned.stdout)
    assert (counts["removed"], counts["gone"], counts["unchanged"], counts["excluded"]) == (5, 0, 7, 1)
    outcomes = {
        line["path"]: line["outcome"]
        for line in map(json.loads, Path("report.jsonl").read_text().splitlines())
        if "outcome" in line
    }
    assert (outcomes["circle.png"], outcomes["scenes/sea.jpg"]) == ("renamed", "gone")


def test_index_accepts_several_folders_with_labels(sceneseek: CommandLine, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "photos/shapes", tmp_path / "drawn")
    assert sceneseek("index", "photos", "mine=drawn").stdout.startswith(
        "indexed 0, unchanged 12, skipped 0, copied 5, near-duplicates 5\n"
    )
    first = json.loads(max(Path("index/reports").iterdir()).read_text().splitlines()[0])
    assert [source["label"] for source in first["sources"]] == ["", "mine"]
    forgotten = sceneseek("index", "photos", "--forget", "drawn")
    assert forgotten.stdout.startswith("indexed 0, unchanged 12, skipped 0, removed 5\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["photos", "--exclude", "!"], 2, "is not a pattern"),
        (["photos", "--dry-run", "--rebuild"], 2, "--dry-run writes nothing"),
        (["watch", "photos", "--interval", "soon"], 2, "--interval"),
        (["status", "photos"], 2, "unexpected extra argument"),
        (["./status"], 1, "no folder"),
        (["photos", "--report", "photos/scenes/sea.jpg/x"], 1, "cannot be written"),
        (["photos/shapes"], 1, "overlap"),
        (["photos", "--forget", "elsewhere"], 1, "is not in the index"),
        ([], 2, "FOLDER"),
    ],
)
def test_index_usage_error_is_one_line(sceneseek: CommandLine, arguments: list[str], code: int, message: str) -> None:
    outcome = sceneseek("index", *arguments)
    (line,) = outcome.stderr.splitlines()
    assert (outcome.returncode, outcome.stdout) == (code, "")
    assert message in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_indexes_new_files_until_signal(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [SCENESEEK, "index", "watch", "photos", "--interval", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as watch:
        assert watch.stdout is not None
        assert next_report(watch.stdout)[0].startswith("indexed 0, unchanged 12")
        shutil.copy(tmp_path / "photos/scenes/sea.jpg", tmp_path / "ocean.jpg")
        (tmp_path / "ocean.jpg").rename(tmp_path / "photos/ocean.jpg")
        assert next_report(watch.stdout)[0].startswith("indexed 0, unchanged 12, skipped 0, copied 1")
        watch.send_signal(number)
        output, errors = watch.communicate()
    assert (watch.returncode, output) == (0, ""), errors
    assert errors.splitlines() == ["watching photos every 0.2 s; stop with Ctrl-C", "stopped"]
    assert_index_is_complete(tmp_path)


def next_report(output: IO[str]) -> list[str]:
    """Read the lines of the next complete report."""
    lines: list[str] = []
    while not lines or not lines[-1].startswith("generation "):
        line = output.readline()
        assert line, lines
        lines.append(line.rstrip())
    return lines


@pytest.mark.parametrize("subcommand", [["watch"], []])
def test_run_prints_report_if_signalled_after_publish(tmp_path: Path, subcommand: list[str]) -> None:
    shutil.copy(tmp_path / "photos/scenes/sea.jpg", tmp_path / "photos/ocean.jpg")
    program = (
        "import os, signal, sys; import sceneseek.cli as cli; from sceneseek.store.edge import EdgeStore\n"
        "publish = EdgeStore.publish\n"
        "def published(*arguments):\n    publish(*arguments)\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "EdgeStore.publish = published\n"
        f"sys.argv = ['sceneseek', 'index', *{subcommand!r}, 'photos']\ncli.main()\n"
    )
    stopped = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.startswith("indexed 0, unchanged 12, skipped 0, copied 1"), stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert_index_is_complete(tmp_path)


def assert_index_is_complete(home: Path) -> None:
    """Assert that the index has 13 images and is not locked."""
    from sceneseek.store import open_store  # noqa: PLC0415

    store = open_store(f"file:{home}/index")
    collection = store.open(str(store.live()))
    assert collection.count() == 13
    collection.close()
    assert store.unfinished() == []


def test_interrupted_run_is_resumed(sceneseek: CommandLine, tmp_path: Path, gallery: Path) -> None:
    program = (
        "import os, signal, sys; import sceneseek_indexer.writing; import sceneseek.cli as cli\n"
        "add = sceneseek_indexer.writing.Writing.add\n"
        "def interrupted(*arguments):\n    add(*arguments)\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "sceneseek_indexer.writing.Writing.add = interrupted\n"
        "sys.argv = ['sceneseek', 'index', 'photos', '--index', 'file:new', '--batch', '3']\ncli.main()\n"
    )
    stopped = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (stopped.returncode, stopped.stderr.splitlines()[-1]) == (1, "stopped")
    again = sceneseek("index", "photos", "--index", "file:new")
    assert "resumed an interrupted run, which had done " in again.stdout
    assert again.stdout.startswith("indexed 12, unchanged 0, skipped 0\n")


def start_waiting(*arguments: str) -> subprocess.Popen[str]:
    """Start a command that waits for the lease on the index."""
    process = subprocess.Popen(
        [SCENESEEK, "index", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert re.search(rf"being written by process {os.getpid()} on \S+ since .* UTC: waiting for that run to end", line)
    return process


def test_run_waits_for_lease_until_released_or_interrupted(sceneseek: CommandLine, tmp_path: Path) -> None:
    from sceneseek.store import open_store  # noqa: PLC0415

    with open_store(f"file:{tmp_path}/index").writing():
        for arguments in (["photos"], ["rollback"], ["move", "file:elsewhere", "file:index"]):
            if "move" in arguments:
                shutil.copytree("index", "elsewhere")
            refused = sceneseek.process("index", *arguments, "--no-wait")
            (line,) = refused.stderr.splitlines()
            assert (refused.returncode, refused.stdout) == (1, "")
            assert f"being written by process {os.getpid()} on " in line
            assert "wait until that run has ended" in line
        with start_waiting("photos") as stopped:
            stopped.send_signal(signal.SIGINT)
            output, errors = stopped.communicate(timeout=60)
        assert (stopped.returncode, output, errors.splitlines()[-1]) == (1, "", "stopped")
        assert "Traceback" not in errors
        patient = start_waiting("photos")
    with patient:
        output, errors = patient.communicate(timeout=60)
    assert patient.returncode == 0, errors
    assert output.startswith("indexed 0, unchanged 12")
