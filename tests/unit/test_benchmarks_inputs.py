"""What the benchmarks ask, weigh and accept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import bench
from benchmarks.footprint import directory_bytes, installed_bytes, memory
from benchmarks.texts import drawn, own_queries, read_queries
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


def test_an_installation_is_the_closure_of_its_requirements() -> None:
    sizes = installed_bytes("sceneseek", ("cpu", "serve"))
    assert {"sceneseek", "onnxruntime", "flask", "werkzeug", "numpy"} <= set(sizes)
    assert not {"torch", "transformers", "pytest"} & set(sizes)
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert sizes["sceneseek"] > 50_000  # an editable installation counts its sources too


def test_without_the_extra_its_requirements_do_not_count() -> None:
    assert "onnxruntime" not in installed_bytes("sceneseek", ())


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
