"""Sessions with IO binding and padding return what plain CPU sessions return."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.runtime import Buckets, Placement, Session, bucket, open_session

CPU = "CPUExecutionProvider"
# Shapes as in bundles: two inputs per row and one for all rows; outputs of a number, a row and no columns per row.
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
rows (float[N, 3] joint, uint8[N, 2] pixels, float[3] text) => (float[N] score, float[N, 2] grey, float[N, 0] head)
<int64[1] axes = {1}, int64[1] from = {0}, int64[1] to = {0}>
{
    products = Mul(joint, text)
    score = ReduceSum<keepdims = 0>(products, axes)
    grey = Cast<to = 1>(pixels)
    head = Slice(joint, from, to, axes)
}
"""
rows = st.integers(1, 150)
many = settings(max_examples=20, deadline=None)


class WatchedSession:
    """A real session that records the sizes of its batches."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding)
        self.batches.append(len(binding.copy_outputs_to_cpu()[0]))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "rows.onnx"
    onnx.save(onnx.parser.parse_model(GRAPH), path)
    return path


@pytest.fixture(scope="module")
def plain(graph: Path) -> Session:
    return open_session(graph, "cpu")


@pytest.fixture(scope="module")
def watched(graph: Path) -> WatchedSession:
    return WatchedSession(onnxruntime.InferenceSession(str(graph), providers=[CPU]))


@pytest.fixture(scope="module")
def bound(watched: WatchedSession) -> Session:
    """A session with IO binding as for CUDA and TensorRT, but on the CPU provider."""
    return Session(watched, Placement("cuda", "cuda", CPU, "to compare"))


def feed(count: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {
        "joint": rng.standard_normal((count, 3), np.float32),
        "pixels": rng.integers(0, 256, (count, 2), np.uint8),
        "text": rng.standard_normal(3, np.float32),
    }


def assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        np.testing.assert_array_equal(actual[name], array)


def test_session_exposes_input_and_output_names(plain: Session) -> None:
    assert (plain.inputs, plain.outputs) == (("joint", "pixels", "text"), ("score", "grey", "head"))


@many
@given(count=rows, seed=st.integers(0, 2**32))
def test_bound_and_padded_run_equals_a_plain_run(plain: Session, bound: Session, count: int, seed: int) -> None:
    inputs = feed(count, seed)
    assert_same(bound.run(inputs), plain.run(inputs))


def test_run_computes_only_requested_outputs(plain: Session, bound: Session) -> None:
    inputs = feed(3)
    assert_same(bound.run(inputs, ["grey"]), plain.run(inputs, ["grey"]))
    assert list(plain.run(inputs, ["head", "score"])) == ["head", "score"]


def test_run_accepts_non_contiguous_arrays(plain: Session, bound: Session) -> None:
    inputs = {**feed(4), "joint": feed(8)["joint"][::2], "pixels": feed(4)["pixels"][:, ::-1]}
    assert_same(bound.run(inputs), plain.run(inputs))


def test_results_are_unaffected_by_the_next_run(bound: Session) -> None:
    first = bound.run(feed(5, seed=1))
    before = {name: array.copy() for name, array in first.items()}
    bound.run(feed(5, seed=2))
    assert_same(first, before)


def test_session_is_thread_safe(plain: Session, bound: Session) -> None:
    batches = [feed(1 + seed % 20, seed) for seed in range(200)]
    with ThreadPoolExecutor(4) as pool:
        for actual, expected in zip(pool.map(bound.run, batches), map(plain.run, batches), strict=True):
            assert_same(actual, expected)


def test_batches_are_padded_to_few_sizes(bound: Session, watched: WatchedSession) -> None:
    watched.batches.clear()
    for count in range(1, 201):
        bound.run(feed(count))
    assert sorted(set(watched.batches)) == [1, 2, 4, 8, 16, 32, 64, 128, 192, 256]


def test_empty_batch_returns_empty_outputs(bound: Session) -> None:
    assert {name: array.shape for name, array in bound.run(feed(0)).items()} == {
        "score": (0,),
        "grey": (0, 2),
        "head": (0, 0),
    }


def test_cpu_batches_are_not_padded(graph: Path) -> None:
    class RecordingSession:
        def __init__(self) -> None:
            self._session = onnxruntime.InferenceSession(str(graph), providers=[CPU])
            self.fed: list[Any] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def run(self, names: Any, fed: Any) -> Any:
            self.fed.append(fed)
            return self._session.run(names, fed)

    session, inputs = RecordingSession(), feed(5)
    Session(session, Placement("cpu", "cpu", CPU, "asked for")).run(inputs)
    assert session.fed[0] is inputs


@given(count=st.integers(1, 10_000))
def test_bucket_fits_its_batch_with_bounded_padding(count: int) -> None:
    assert count <= bucket(count) < max(2 * count, 2)
    assert bucket(count) - count < 64
    assert bucket(bucket(count)) == bucket(count)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": ["N", 3]}, {"mean": [3]}),
        ({"x": ["N", 3]}, {"similarity": ["N", "N"]}),
        ({"x": ["N", 3], "y": [3, "N"]}, {"z": ["N", 3]}),
        ({"x": ["M", 3]}, {"y": ["M", 3]}),
        ({"x": [2, 3]}, {"y": [2, 3]}),
        ({"x": []}, {"y": ["N"]}),
    ],
)
def test_graph_that_may_mix_rows_is_not_padded(inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    buckets = Buckets(inputs, outputs)
    arrays = {name: np.zeros((3, 3)) for name in inputs}
    padded, count = buckets.pad(arrays)
    assert padded is arrays
    assert count is None
