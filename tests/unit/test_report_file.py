"""The report file recovers from truncated lines, and the last outcome of a generation's runs counts."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from sceneseek.errors import SourceError
from sceneseek_indexer.inventory import Known
from sceneseek_indexer.report import IndexReport, ReportFile, earlier_lines, file_line, opening_lines
from sceneseek_indexer.sync_plan import Plan

IMAGE = Known("id", 0, "a.png", 1, 2, "hash")


@pytest.mark.parametrize("torn", ["", "{", '{"kind": "file", "pa', "x" * 10_000])
def test_truncated_last_line_is_removed(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "reports" / "r.jsonl"
    with ReportFile(path) as report:
        report.write([{"kind": "run", "generation": "g"}, file_line("indexed", IMAGE)])
    with path.open("a") as file:
        file.write(torn)
    with ReportFile(path) as report:
        report.write([{"kind": "end"}])
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["run", "file", "end"]


def test_file_of_one_truncated_line_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("torn")
    with ReportFile(path):
        pass
    assert path.read_text() == ""


def test_earlier_lines_returns_the_last_outcome_of_the_generation(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    other = IMAGE._replace(id="other")
    with ReportFile(path) as report:
        report.write([{"kind": "run", "generation": "g"}, file_line("indexed", IMAGE), file_line("gone", other)])
        report.write([{"kind": "run", "generation": "h"}, file_line("removed", IMAGE)])
        report.write([{"kind": "run", "generation": "g"}, file_line("touched", other)])
    with path.open("a") as file:
        file.write("not JSON\n[]\n")
    assert {i: line["outcome"] for i, line in earlier_lines(path, "g")} == {"id": "indexed", "other": "touched"}
    assert list(earlier_lines(tmp_path / "none", "g")) == []


def test_file_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    with ReportFile(tmp_path / "r.jsonl") as report:
        report.write([file_line("renamed", IMAGE._replace(relative="caf\udce9.png"), origin=IMAGE)])
    line = json.loads((tmp_path / "r.jsonl").read_text())
    assert (line["path"], line["from"]) == (r"caf\xe9.png", "a.png")
    assert "path_bytes" in line


def test_unwritable_report_path_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match=r"report .* cannot be written"):
        ReportFile(tmp_path / "file" / "r.jsonl")


def test_report_lines_are_streamed(tmp_path: Path) -> None:
    report, many = IndexReport(), 100_000
    lines = opening_lines(report, Plan(unchanged=[IMAGE] * many), [], {}, lambda _: False)
    with ReportFile(tmp_path / "r.jsonl") as file:
        tracemalloc.start()
        try:
            file.write(lines)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 1_000_000
    assert report.unchanged == many
    assert (tmp_path / "r.jsonl").read_text().count("\n") == many


def test_report_counts_without_a_file() -> None:
    report = IndexReport()
    ReportFile(None).write(opening_lines(report, Plan(unchanged=[IMAGE]), [], {}, lambda _: False))
    assert report.unchanged == 1
