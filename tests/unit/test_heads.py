"""Heads: their inputs, their curves, and saving and loading them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.bundle import MatchThreshold
from sceneseek.errors import DataError
from sceneseek.vectors import Floats
from sceneseek_export.curves import Calibration, IsotonicCurve
from sceneseek_export.heads import (
    CARD,
    WEIGHTS,
    CosineHead,
    FirstLayer,
    Head,
    LinearHead,
    MlpHead,
    TreesHead,
    load_head,
    pair_inputs,
    save_head,
)
from tests.weights import CALIBRATION, drawn_head, drawn_inputs

WIDTHS = {"similarity": 1, "product": 12, "image": 9, "text": 6, "spread": 4}
KINDS = ("constant", "cosine", "isotonic", "linear", "mlp", "catboost")


def curves() -> st.SearchStrategy[IsotonicCurve]:
    """Return rising curves of two to twenty knots, including steep and level ones."""
    knots = st.lists(st.tuples(st.integers(-1000, 1000), st.floats(0, 1, width=32)), min_size=2, max_size=20)
    return knots.map(dict).filter(lambda points: len(points) > 1).map(_curve)


def _curve(points: dict[int, float]) -> IsotonicCurve:
    at = np.array(sorted(points), np.float32) / np.float32(1000)
    return IsotonicCurve(at, np.array(sorted(points.values()), np.float32))


@given(curve=curves(), at=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30))
def test_isotonic_curve_interpolates_its_knots_and_is_constant_beyond(curve: IsotonicCurve, at: list[float]) -> None:
    similarity = np.array([*sorted(at), *curve.at, -1e3, 1e3], np.float32)
    scores = curve.score(similarity)
    np.testing.assert_allclose(scores, np.interp(similarity, curve.at, curve.scores), atol=1e-5)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.diff(curve.score(np.sort(similarity))) >= -1e-6).all()


@pytest.mark.parametrize(
    ("at", "scores"), [([0.1], [0.5]), ([0.2, 0.2], [0.1, 0.5]), ([0.3, 0.2], [0.1, 0.5]), ([0.2, 0.3], [0.5, 0.1])]
)
def test_knots_that_do_not_rise_are_rejected(at: list[float], scores: list[float]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        IsotonicCurve(np.array(at, np.float32), np.array(scores, np.float32))


def test_calibration_is_the_logistic_function_even_for_extreme_inputs() -> None:
    similarity = np.array([-1e4, -0.3, 0.2, 1e4], np.float32)
    scores = Calibration(8.0, -2.0, "test").score(similarity)
    np.testing.assert_allclose(scores, [0, 1 / (1 + np.exp(4.4)), 1 / (1 + np.exp(0.4)), 1], atol=1e-6)


def test_head_of_a_calibration_has_its_validation_metrics() -> None:
    head = CosineHead.of_calibration(CALIBRATION)
    assert head.validation == {"source": "test", "rmse": 0.2}
    assert head.alignment == ""  # the check at export accepts it for any joint space


def test_pair_inputs_match_their_definitions() -> None:
    images, features, text_joint, text, spread = drawn_inputs(np.random.default_rng(0), 3, WIDTHS)
    inputs = pair_inputs(images, features, text_joint, text, spread)
    assert {name: array.shape for name, array in inputs.items()} == {n: (3, width) for n, width in WIDTHS.items()}
    np.testing.assert_allclose(inputs["product"].sum(axis=1), inputs["similarity"][:, 0], atol=1e-6)
    np.testing.assert_array_equal(inputs["image"], features)
    np.testing.assert_array_equal(inputs["text"][2], text)
    np.testing.assert_array_equal(inputs["spread"][2], spread)


def test_first_layer_is_the_weighted_sum_of_its_inputs() -> None:
    first = FirstLayer(
        {"text": np.array([[1, 2], [0, 0]], np.float32), "image": np.array([[3], [1]], np.float32)},
        np.array([10, 20], np.float32),
    )
    inputs = {"image": np.array([[1], [2]], np.float32), "text": np.array([[5, 7], [0, 1]], np.float32)}
    np.testing.assert_array_equal(first(inputs), [[1 * 5 + 2 * 7 + 3 + 10, 1 + 20], [2 + 6 + 10, 2 + 20]])


@pytest.mark.parametrize("inputs", [{"similarity": 1, "smell": 2}, {"text": 6, "spread": 4}, {"text": 6}, {}])
def test_head_with_unknown_inputs_or_without_image_inputs_is_rejected(inputs: dict[str, int]) -> None:
    message = r"cannot read \['smell'\]" if "smell" in inputs else "does not read the image"
    one = np.zeros((1, 1), np.float32)
    with pytest.raises(ValueError, match=message):
        FirstLayer({name: np.ones((1, width), np.float32) for name, width in inputs.items()}, one[0])
    with pytest.raises(ValueError, match=message):
        TreesHead(inputs, np.zeros((1, 1), np.int64), one, np.zeros((1, 2), np.float32), 0.0)


def test_trees_select_the_leaf_by_the_bits_of_their_comparisons() -> None:
    head = TreesHead(
        widths={"similarity": 1, "image": 1},
        feature=np.array([[0, 1], [1, 1]]),
        border=np.array([[0.5, 2.0], [1.0, 3.0]], np.float32),
        leaves=np.array([[0.1, 0.2, 0.3, 0.4], [0.01, 0.02, 0.03, 0.04]], np.float32),
        bias=0.05,
    )
    # A value equal to the border does not exceed it.
    inputs = {"similarity": np.array([[0.5], [0.6], [0.6]], "f4"), "image": np.array([[0.0], [2.5], [9.0]], "f4")}
    np.testing.assert_allclose(head.score(inputs), [0.1 + 0.01 + 0.05, 0.4 + 0.02 + 0.05, 0.4 + 0.04 + 0.05], atol=1e-6)


def test_mlp_with_zero_output_equals_the_calibrated_cosine() -> None:
    head = drawn_head("mlp", WIDTHS)
    assert isinstance(head, MlpHead)
    weight, bias = head.layers[-1]
    zeroed = replace(head, layers=(*head.layers[:-1], (0 * weight, 0 * bias)))
    inputs = pair_inputs(*drawn_inputs(np.random.default_rng(1), 20, WIDTHS))
    expected = CALIBRATION.score(inputs["similarity"][:, 0])
    np.testing.assert_allclose(zeroed.score(inputs), expected, atol=1e-6)
    assert np.abs(head.score(inputs) - expected).max() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_head_round_trips_through_its_files(kind: str, tmp_path: Path) -> None:
    before = _described(kind)
    save_head(before, tmp_path)
    after = load_head(tmp_path)
    assert type(after) is type(before)
    for name in ("reads", "towers", "alignment", "image_width", "text_width", "validation", "match"):
        assert getattr(after, name) == getattr(before, name)
    inputs = pair_inputs(*drawn_inputs(np.random.default_rng(2), 30, WIDTHS))
    np.testing.assert_array_equal(after.score(inputs), before.score(inputs))
    assert after.score(inputs).dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_saved_files_are_deterministic(kind: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_head(_described(kind), tmp_path / name)
    save_head(load_head(tmp_path / "one"), tmp_path / "three")
    for file in (CARD, WEIGHTS):
        assert len({(tmp_path / name / file).read_bytes() for name in ("one", "two", "three")}) == 1


def _described(kind: str) -> Head:
    """Return a head with an alignment, a validation and a match threshold."""
    head: Any = drawn_head(kind, WIDTHS)
    match = MatchThreshold(threshold=0.5, source="captions", figures={"auc": 0.9})
    described: Head = replace(head, alignment="0123abcd", validation={"rmse": 0.18, "how": "5 folds"}, match=match)
    return described


def test_absent_match_threshold_round_trips(tmp_path: Path) -> None:
    save_head(drawn_head("mlp", WIDTHS), tmp_path)
    assert "match" not in json.loads((tmp_path / CARD).read_text())
    assert load_head(tmp_path).match is None


def test_match_threshold_out_of_range_is_rejected(tmp_path: Path) -> None:
    save_head(_described("mlp"), tmp_path)
    raw = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**raw, "match": {**raw["match"], "threshold": 1.5}}))
    with pytest.raises(DataError, match=r"the head in .* cannot be read"):
        load_head(tmp_path)


@pytest.mark.parametrize("missing", [CARD, WEIGHTS])
def test_missing_file_is_named_with_the_command_that_writes_it(missing: str, tmp_path: Path) -> None:
    save_head(drawn_head("mlp", WIDTHS), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(
        DataError, match=rf"no head in .* \({missing} is missing\): write it with `sceneseek train heads"
    ):
        load_head(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"schema_version": 1}, {"schema_version": 3}, {"kind": "oracle"}],
    ids=["an older schema", "a newer schema", "an unknown kind"],
)
def test_unsupported_schema_version_or_kind_is_rejected(change: dict[str, object], tmp_path: Path) -> None:
    save_head(drawn_head("mlp", WIDTHS), tmp_path)
    raw = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**raw, **change}))
    with pytest.raises(DataError, match=r"head\.json is not a head that this version can read: write it with"):
        load_head(tmp_path)


@pytest.mark.parametrize("kind", ["isotonic", "mlp", "catboost"])
@pytest.mark.parametrize("file", [CARD, WEIGHTS])
@pytest.mark.parametrize("fraction", [0, 0.02, 0.5, 0.9])
def test_damaged_file_is_rejected_with_the_command_that_writes_it(
    kind: str, file: str, fraction: float, tmp_path: Path
) -> None:
    save_head(drawn_head(kind, WIDTHS), tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(DataError, match=r"the head in .* cannot be read .*: write it with"):
        load_head(tmp_path)


def test_weights_of_another_kind_are_rejected(tmp_path: Path) -> None:
    save_head(drawn_head("mlp", WIDTHS), tmp_path)
    save_head(drawn_head("catboost", WIDTHS), tmp_path / "other")
    (tmp_path / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(DataError, match="cannot be read"):
        load_head(tmp_path)


def test_scores_are_clipped_not_rescaled() -> None:
    weight: Floats = np.ones((1, 1), np.float32)
    head = LinearHead(FirstLayer({"similarity": weight}, np.zeros(1, np.float32)))
    scores = head.score({"similarity": np.array([[-0.5], [0.25], [1.5]], np.float32)})
    np.testing.assert_array_equal(scores, [0, 0.25, 1])
