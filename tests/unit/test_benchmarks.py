"""The benchmarks' inputs, rounds, figures and report."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import bench
from benchmarks.engine import Clusters
from benchmarks.footprint import directory_bytes, memory
from benchmarks.indexing import Run
from benchmarks.indexing import section as indexing_section
from benchmarks.inputs import drawn, own_queries, read_queries
from benchmarks.query import Parts, Round, many_clients_section, one_client_section
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.service import Reply
from benchmarks.timing import Spread, measure, percentile, ratios, rotated
from sceneseek.errors import DataError
from sceneseek.request import checked_query


def test_queries_come_one_a_line_and_blank_ones_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "queries.txt"
    file.write_text("a dog\n\n  two cats \n", encoding="utf-8")
    assert read_queries(file) == ["a dog", "two cats"]


def test_queries_come_from_the_caption_column_of_a_tsv(tmp_path: Path) -> None:
    file = tmp_path / "captions.tsv"
    file.write_text('image\tcaption\na.jpg\tA "red" ball .\nb.jpg\t\n', encoding="utf-8")
    assert read_queries(file) == ['A "red" ball .']


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe"])
def test_a_file_without_queries_is_a_data_error(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "queries.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError):
        read_queries(file)


def test_our_own_queries_vary_and_can_all_be_searched() -> None:
    queries = own_queries()
    assert len(set(queries)) == len(queries) > 50
    assert [checked_query(query) for query in queries] == queries


def test_queries_are_drawn_by_the_seed_and_repeat_only_when_all_were_asked() -> None:
    queries = own_queries()
    first = drawn(queries, len(queries) + 1, seed=1)
    assert first == drawn(queries, len(queries) + 1, seed=1)
    assert first != drawn(queries, len(queries) + 1, seed=2)
    assert sorted(first[:-1]) == sorted(queries)


def test_a_directory_weighs_what_its_files_take_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "full").write_bytes(os.urandom(50_000))
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10_000_000)
    assert 50_000 <= directory_bytes(tmp_path) < 200_000


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from Linux's /proc")
def test_this_process_has_resident_memory() -> None:
    found = memory(os.getpid())
    assert found.rss > 1
    assert found.pss > 1


@pytest.mark.parametrize("sizes", ["few", "10,", "-1"])
def test_sizes_that_are_no_numbers_are_a_usage_error(sizes: str) -> None:
    result = CliRunner().invoke(bench, ["--images", ".", "--sizes", sizes])
    assert result.exit_code == 2
    assert "--sizes" in result.output


def test_a_spread_is_the_extremes_and_the_middle() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(1.0, 2.5, 10.0, 4)


def test_a_spread_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Spread.of([])


def test_a_percentile_lies_between_its_neighbours() -> None:
    values = [float(n) for n in range(101)]
    assert percentile(values, 50) == 50.0
    assert percentile(values, 99) == 99.0
    assert percentile([1.0, 2.0], 50) == 1.5
    assert percentile([7.0], 99) == 7.0


def test_a_ratio_cancels_what_slowed_its_whole_round() -> None:
    assert ratios([10.0, 30.0], [8.0, 24.0]) == [1.25, 1.25]


def test_ratios_of_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_each_round_begins_with_another_part() -> None:
    assert [rotated("abc", by)[0] for by in range(4)] == ["a", "b", "c", "a"]
    assert rotated("abc", 1) == ["b", "c", "a"]


def test_every_part_runs_once_a_round_and_its_outcomes_are_in_order() -> None:
    calls: list[str] = []

    def part(name: str) -> str:
        calls.append(name)
        return f"{name}{len(calls)}"

    told: list[str] = []
    outcomes = measure({"a": lambda: part("a"), "b": lambda: part("b")}, 2, told.append)
    assert calls == ["a", "b", "b", "a"]
    assert outcomes == {"a": ["a1", "a4"], "b": ["b2", "b3"]}
    assert told[0] == "round 1 of 2: a"


def test_a_ratio_is_taken_within_a_round_not_between_medians() -> None:
    figure = Figure("p50", "ms", [10.0, 40.0, 12.0], "parts", [8.0, 32.0, 6.0])
    assert figure.ratio() == Spread(1.25, 1.25, 2.0, 3)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("ratio", 1.3), True),
        (Goal("ratio", 1.2), False),
        (Goal("ratio", 1.2, "least"), True),
        (Goal("value", 10.0), True),
        (Goal("value", 9.0), False),
        (None, None),
    ],
)
def test_a_goal_is_judged_by_the_median(goal: Goal | None, met: bool | None) -> None:
    assert Figure("p50", "ms", [1.0, 10.0, 900.0], "parts", [8.0, 8.0, 8.0], goal).met() is met


def test_a_line_shows_value_floor_ratio_and_goal() -> None:
    figure = Figure("p50", "ms", [10.0, 12.0], "the bare parts", [8.0, 8.0], Goal("ratio", 1.3))
    assert figure.line(width=5) == (
        "p50    11.0 [10.0 .. 12.0] ms | floor 8.00 [8.00 .. 8.00] (the bare parts)"
        " | ratio 1.38 [1.25 .. 1.50] | goal at most 1.30: MISSED"
    )


def test_a_single_value_is_shown_without_extremes() -> None:
    assert Figure("memory", "MB", [1234.5]).line(width=6) == "memory  1,234 MB"


def test_numbers_keep_three_digits_whatever_their_size() -> None:
    lines = [Figure("x", "s", [value]).line(1) for value in (0.0, 0.001234, 9.999, 123456.0)]
    assert lines == ["x  0 s", "x  0.00123 s", "x  10.00 s", "x  123,456 s"]


def test_the_report_reads_from_machine_to_sections_and_is_json() -> None:
    section = Section("Footprint", [Figure("start", "s", [2.0], goal=Goal("value", 3.0))], ["busy"])
    report = Report({"machine": "two cores"}, [section])
    assert report.lines()[1:] == [
        "machine: two cores",
        "",
        "Footprint",
        "  start  2.00 s | goal at most 3.00: met",
        "  (busy)",
    ]
    figure = json.loads(json.dumps(report.to_json()))["sections"][0]["figures"][0]
    assert figure["values"] == [2.0]
    assert figure["met"] is True
    assert figure["ratio"] is None


def test_indexing_stands_beside_the_slower_part_and_beside_both_on_the_same_cores() -> None:
    def runs(rate: float) -> list[Run]:
        return [Run(images=100, seconds=100 / rate, processor=1.0)]

    section = indexing_section({"end to end": runs(40.0), "decode only": runs(200.0), "encode only": runs(50.0)})
    beside = {figure.floor_name: figure for figure in section.figures if figure.name == "end to end"}
    assert beside["the slower of the two"].ratio() == Spread(0.8, 0.8, 0.8, 1)
    ratio = beside["both on the same cores"].ratio()
    assert ratio is not None
    assert ratio.median == pytest.approx(1.0)


def a_round(milliseconds: float) -> Round:
    stages = {"encode": 5.0, "shortlist": 0.5, "score": 0.1, "payload": 0.1, "total": 6.0}
    return Round(
        replies=[Reply(milliseconds / 1e3, stages)],
        parts=[Parts(text=0.005, engine=0.0005, score=0.0005)],
        empty=[0.001],
        http_seconds=1.0,
        floor_seconds=0.5,
    )


def test_a_query_stands_beside_the_sum_of_its_parts_with_where_its_time_goes() -> None:
    section = one_client_section([a_round(7.2), a_round(9.0)], images=10)
    figures = {figure.name: figure for figure in section.figures}
    assert list(figures["one client, p50"].floor) == pytest.approx([6.0, 6.0])
    assert figures["one client, p50"].met() is False
    assert list(figures["around the search"].values) == pytest.approx([1.2, 3.0])
    assert "2 queries in 2 rounds" in section.notes[0]


def test_throughput_counts_what_was_asked_by_the_seconds_it_took() -> None:
    throughput = many_clients_section([a_round(7.2)], clients=8, images=10).figures[-1]
    assert (list(throughput.values), list(throughput.floor)) == ([1.0], [2.0])


def test_the_engine_is_asked_for_neighbours_that_exist() -> None:
    vectors = Clusters(count=200, width=64, seed=0).draw(50)
    cosines = vectors @ vectors.T
    assert vectors.shape == (50, 64)
    assert cosines.diagonal() == pytest.approx(1.0, abs=1e-5)
    assert ((cosines > 0.5).sum(axis=1) > 1).all()  # two clusters, so each has company
    assert (cosines < 0.5).any()
