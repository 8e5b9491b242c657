"""How the engines of `benchmarks.providers` are compared; OpenVINO itself is no dependency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

from benchmarks import providers
from benchmarks.feeds import noise

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
g (uint8[N, 20, 12, 3] pixels, float[N, 4] x) => (float[N, 4] y) { y = Identity(x) }
"""


def test_the_distance_is_that_of_the_worst_row_and_number() -> None:
    true = {"joint": np.eye(2, dtype=np.float32), "head": np.zeros((2, 0), np.float32)}
    found = {**true, "joint": np.array([[1, 0], [0.6, 0.8]], np.float32)}
    assert providers.distance(true, true).startswith("cosine 1.00000 at least, 1.00000 on average; differs by 0.0e+00")
    assert providers.distance(found, true).startswith("cosine 0.80000 at least, 0.90000 on average; differs by 6.0e-01")


def test_noise_fits_the_graph_that_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    onnx.save(onnx.parser.parse_model(GRAPH), path)
    feed = noise(path, 5)
    assert {name: (array.shape, array.dtype.name) for name, array in feed.items()} == {
        "pixels": ((5, 20, 12, 3), "uint8"),
        "x": ((5, 4), "float32"),
    }
    case = providers.Case("noise", path, feed, feed, callers=2, threads=1)
    speed = providers.speed(providers.onnxruntime_engine(path, 1), case, seconds=0.01)
    assert speed.rate > 0


def test_openvino_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(providers, "find_spec", lambda _: None)
    done = CliRunner().invoke(providers.main, ["--bundle", str(tmp_path)])
    assert done.exit_code == 1
    assert "pip install openvino" in done.output
