"""The benchmark of lower precision, on a net of one layer and a few milliseconds."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.precision import Network, compare, networks


def test_a_network_is_timed_in_all_its_ways_and_int8_is_held_to_its_goal() -> None:
    net = Network(
        name="one layer",
        unit="images/s",
        make=lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval(),
        feed={"pixels": np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)},
        goal=1e-9,
    )
    told: list[str] = []
    threads = torch.get_num_threads()
    try:
        section = compare(net, threads=1, rounds=2, seconds=0.0, tell=told.append)
    finally:
        torch.set_num_threads(threads)
    figures = {figure.name: figure for figure in section.figures}
    assert set(figures) == {"eager torch fp32", "fp32", "int8", "int8 beside torch"}
    assert all(len(figure.values) == 2 and min(figure.values) > 0 for figure in section.figures)
    assert figures["int8"].met() is True
    assert figures["int8"].floor == figures["fp32"].values
    assert sum("round 2 of 2" in line for line in told) == 3


def test_the_goals_are_those_of_resnet50_and_of_bert() -> None:
    goals = {network.name.split(",")[0]: network.goal for network in networks()}
    assert (goals["ResNet50"], goals["BERT base"]) == (2.5, 3.0)
