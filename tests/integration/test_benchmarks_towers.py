"""The benchmark of the hub's towers, on small ones: every way is timed, and goals are held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.towers import CASES, Bench
from sceneseek_export.towers import TextTower


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_tower_is_timed_in_all_its_ways_and_a_query_beside_its_tower(tmp_path: Path) -> None:
    cases = {case.architecture: case for case in CASES}
    bench = Bench(threads=1, rounds=2, seconds=0.0, true_size=False)
    for architecture in ("clip-image", "bert"):
        section, tower = bench.tower(cases[architecture], tmp_path)
        figures = {figure.name: figure for figure in section.figures}
        assert set(figures) == {"eager torch", "fp32", "int8", "int8 beside eager torch"}
        assert all(len(figure.values) == 2 and min(figure.values) > 0 for figure in section.figures)
        assert figures["int8"].floor == figures["fp32"].values
    assert isinstance(tower, TextTower)
    (query,) = bench.pack(tower, tmp_path).figures
    assert query.goal is not None
    assert len(query.floor) == 2


def test_the_goals_are_those_of_resnet50_and_of_bert() -> None:
    goals = {case.name: case.goal for case in CASES}
    assert (goals["ResNet50"], goals["BERT base"]) == (2.5, 3.0)
