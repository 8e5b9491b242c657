"""The inputs, rounds, metrics and report of the benchmarks."""

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


def test_queries_are_read_one_per_line_without_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "queries.txt"
    file.write_text("a dog\n\n  two cats \n", encoding="utf-8")
    assert read_queries(file) == ["a dog", "two cats"]


def test_queries_are_read_from_the_caption_column_of_a_tsv(tmp_path: Path) -> None:
    file = tmp_path / "captions.tsv"
    file.write_text('image\tcaption\na.jpg\tA "red" ball .\nb.jpg\t\n', encoding="utf-8")
    assert read_queries(file) == ['A "red" ball .']


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe"])
def test_file_without_queries_raises_data_error(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "queries.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError):
        read_queries(file)


def test_own_queries_are_distinct_and_valid() -> None:
    queries = own_queries()
    assert len(set(queries)) == len(queries) > 50
    assert [checked_query(query) for query in queries] == queries


def test_drawn_queries_depend_on_the_seed_and_repeat_only_after_all_were_used() -> None:
    queries = own_queries()
    first = drawn(queries, len(queries) + 1, seed=1)
    assert first == drawn(queries, len(queries) + 1, seed=1)
    assert first != drawn(queries, len(queries) + 1, seed=2)
    assert sorted(first[:-1]) == sorted(queries)


def test_directory_bytes_is_the_disk_usage(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "full").write_bytes(os.urandom(50_000))
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10_000_000)
    assert 50_000 <= directory_bytes(tmp_path) < 200_000


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from Linux's /proc")
def test_this_process_has_resident_memory() -> None:
    usage = memory(os.getpid())
    assert usage.rss > 1
    assert usage.pss > 1


@pytest.mark.parametrize("sizes", ["few", "10,", "-1"])
def test_invalid_sizes_are_a_usage_error(sizes: str) -> None:
    result = CliRunner().invoke(bench, ["--images", ".", "--sizes", sizes])
    assert result.exit_code == 2
    assert "--sizes" in result.output


def test_spread_has_minimum_median_and_maximum() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(1.0, 2.5, 10.0, 4)


def test_spread_of_no_values_raises() -> None:
    with pytest.raises(ValueError, match="empty"):
        Spread.of([])


def test_percentile_interpolates_between_values() -> None:
    values = [float(n) for n in range(101)]
    assert percentile(values, 50) == 50.0
    assert percentile(values, 99) == 99.0
    assert percentile([1.0, 2.0], 50) == 1.5
    assert percentile([7.0], 99) == 7.0


def test_ratios_are_computed_per_round() -> None:
    assert ratios([10.0, 30.0], [8.0, 24.0]) == [1.25, 1.25]


def test_ratios_of_unequal_numbers_of_rounds_raise() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_each_round_starts_with_another_part() -> None:
    assert [rotated("abc", by)[0] for by in range(4)] == ["a", "b", "c", "a"]
    assert rotated("abc", 1) == ["b", "c", "a"]


def test_measure_runs_every_part_once_per_round_and_keeps_outcomes_in_order() -> None:
    calls: list[str] = []

    def part(name: str) -> str:
        calls.append(name)
        return f"{name}{len(calls)}"

    messages: list[str] = []
    outcomes = measure({"a": lambda: part("a"), "b": lambda: part("b")}, 2, messages.append)
    assert calls == ["a", "b", "b", "a"]
    assert outcomes == {"a": ["a1", "a4"], "b": ["b2", "b3"]}
    assert messages[0] == "round 1 of 2: a"


def test_ratio_is_computed_within_rounds_not_between_medians() -> None:
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
def test_goal_is_compared_with_the_median(goal: Goal | None, met: bool | None) -> None:
    assert Figure("p50", "ms", [1.0, 10.0, 900.0], "parts", [8.0, 8.0, 8.0], goal).met() is met


def test_line_shows_value_floor_ratio_and_goal() -> None:
    figure = Figure("p50", "ms", [10.0, 12.0], "the bare parts", [8.0, 8.0], Goal("ratio", 1.3))
    assert figure.line(width=5) == (
        "p50    11.0 [10.0 .. 12.0] ms | floor 8.00 [8.00 .. 8.00] (the bare parts)"
        " | ratio 1.38 [1.25 .. 1.50] | goal at most 1.30: MISSED"
    )


def test_single_value_is_shown_without_extremes() -> None:
    assert Figure("memory", "MB", [1234.5]).line(width=6) == "memory  1,234 MB"


def test_numbers_keep_at_least_three_significant_digits() -> None:
    lines = [Figure("x", "s", [value]).line(1) for value in (0.0, 0.001234, 9.999, 123456.0)]
    assert lines == ["x  0 s", "x  0.00123 s", "x  10.00 s", "x  123,456 s"]


def test_report_lists_machine_and_sections_and_serialises_to_json() -> None:
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


def test_indexing_is_compared_with_the_slower_part_and_with_both_on_the_same_cores() -> None:
    def runs(rate: float) -> list[Run]:
        return [Run(images=100, seconds=100 / rate, processor=1.0)]

    section = indexing_section({"end to end": runs(40.0), "decode only": runs(200.0), "encode only": runs(50.0)})
    by_floor = {figure.floor_name: figure for figure in section.figures if figure.name == "end to end"}
    assert by_floor["the slower of the two"].ratio() == Spread(0.8, 0.8, 0.8, 1)
    ratio = by_floor["both on the same cores"].ratio()
    assert ratio is not None
    assert ratio.median == pytest.approx(1.0)


def make_round(milliseconds: float) -> Round:
    stages = {"encode": 5.0, "shortlist": 0.5, "score": 0.1, "payload": 0.1, "total": 6.0}
    return Round(
        replies=[Reply(milliseconds / 1e3, stages)],
        parts=[Parts(text=0.005, engine=0.0005, score=0.0005)],
        empty=[0.001],
        http_seconds=1.0,
        floor_seconds=0.5,
    )


def test_query_time_is_compared_with_the_sum_of_its_parts() -> None:
    section = one_client_section([make_round(7.2), make_round(9.0)], images=10)
    figures = {figure.name: figure for figure in section.figures}
    assert list(figures["one client, p50"].floor) == pytest.approx([6.0, 6.0])
    assert figures["one client, p50"].met() is False
    assert list(figures["around the search"].values) == pytest.approx([1.2, 3.0])
    assert "2 queries in 2 rounds" in section.notes[0]


def test_throughput_is_requests_per_second() -> None:
    throughput = many_clients_section([make_round(7.2)], clients=8, images=10).figures[-1]
    assert (list(throughput.values), list(throughput.floor)) == ([1.0], [2.0])


def test_cluster_vectors_have_near_neighbours() -> None:
    vectors = Clusters(count=200, width=64, seed=0).draw(50)
    cosines = vectors @ vectors.T
    assert vectors.shape == (50, 64)
    assert cosines.diagonal() == pytest.approx(1.0, abs=1e-5)
    assert ((cosines > 0.5).sum(axis=1) > 1).all()  # two clusters, so every vector has a neighbour
    assert (cosines < 0.5).any()
