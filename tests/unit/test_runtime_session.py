"""A run elsewhere than on the CPU, bound and padded, says what a plain run on the CPU says."""

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
# Of the shapes that bundles have: two inputs a row, one for all rows; an output a number, rows, and nothing wide.
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


class Watched:
    """A real session, and the batches that it was run on."""

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
def watched(graph: Path) -> Watched:
    return Watched(onnxruntime.InferenceSession(str(graph), providers=[CPU]))


@pytest.fixture(scope="module")
def bound(watched: Watched) -> Session:
    """The path of CUDA and TensorRT, over the CPU's provider."""
    return Session(watched, Placement("cuda", "cuda", CPU, "to compare"))


def feed(count: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(seed)
    return {
        "joint": draw.standard_normal((count, 3), np.float32),
        "pixels": draw.integers(0, 256, (count, 2), np.uint8),
        "text": draw.standard_normal(3, np.float32),
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_session_knows_its_names(plain: Session) -> None:
    assert (plain.inputs, plain.outputs) == (("joint", "pixels", "text"), ("score", "grey", "head"))


@many
@given(count=rows, seed=st.integers(0, 2**32))
def test_a_bound_and_padded_run_equals_a_plain_one(plain: Session, bound: Session, count: int, seed: int) -> None:
    given = feed(count, seed)
    assert_same(bound.run(given), plain.run(given))


def test_only_the_outputs_that_are_wanted_are_computed(plain: Session, bound: Session) -> None:
    given = feed(3)
    assert_same(bound.run(given, ["grey"]), plain.run(given, ["grey"]))
    assert list(plain.run(given, ["head", "score"])) == ["head", "score"]


def test_arrays_that_are_not_contiguous_are_read_as_they_are(plain: Session, bound: Session) -> None:
    given = {**feed(4), "joint": feed(8)["joint"][::2], "pixels": feed(4)["pixels"][:, ::-1]}
    assert_same(bound.run(given), plain.run(given))


def test_results_outlive_the_next_run(bound: Session) -> None:
    first = bound.run(feed(5, seed=1))
    before = {name: array.copy() for name, array in first.items()}
    bound.run(feed(5, seed=2))
    assert_same(first, before)


def test_threads_share_a_session(plain: Session, bound: Session) -> None:
    given = [feed(1 + seed % 20, seed) for seed in range(200)]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(bound.run, given), map(plain.run, given), strict=True):
            assert_same(found, expected)


def test_all_batches_up_to_200_are_run_in_ten_sizes(bound: Session, watched: Watched) -> None:
    watched.batches.clear()
    for count in range(1, 201):
        bound.run(feed(count))
    assert sorted(set(watched.batches)) == [1, 2, 4, 8, 16, 32, 64, 128, 192, 256]


def test_an_empty_batch_stays_empty(bound: Session) -> None:
    assert {name: array.shape for name, array in bound.run(feed(0)).items()} == {
        "score": (0,),
        "grey": (0, 2),
        "head": (0, 0),
    }


def test_nothing_is_padded_on_the_cpu(graph: Path) -> None:
    class Seen:
        def __init__(self) -> None:
            self._session = onnxruntime.InferenceSession(str(graph), providers=[CPU])
            self.fed: list[Any] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def run(self, names: Any, fed: Any) -> Any:
            self.fed.append(fed)
            return self._session.run(names, fed)

    seen, given = Seen(), feed(5)
    Session(seen, Placement("cpu", "cpu", CPU, "asked for")).run(given)
    assert seen.fed[0] is given


@given(count=st.integers(1, 10_000))
def test_a_bucket_holds_its_batch_and_wastes_less_than_half_or_64_rows(count: int) -> None:
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
def test_a_graph_that_may_mix_its_rows_is_left_alone(inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    buckets = Buckets(inputs, outputs)
    given = {name: np.zeros((3, 3)) for name in inputs}
    padded, count = buckets.pad(given)
    assert padded is given
    assert count is None
