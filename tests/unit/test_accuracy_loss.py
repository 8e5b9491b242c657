"""Accuracy loss of a lower precision, measured on tiny bundles that match colours with words."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from sceneseek.bundle import Bundle, Dimensions, Head, ImageInput, Manifest, TextInput
from sceneseek.errors import DataError, ExportError
from sceneseek.files import sha256_of
from sceneseek.vectors import Floats
from sceneseek_export.accuracy_loss import (
    RECALL,
    TAU_C,
    AccuracyData,
    AccuracyLoss,
    Cosine,
    Difference,
    Loss,
    check,
    measure_accuracy_loss,
)
from sceneseek_export.subgraphs import subgraph

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (230, 220, 40)}
SIDE = 8
WORDS = ("[PAD]", *COLOURS)


def write_bundle(folder: Path, image_turn: Floats | None = None, text_turn: Floats | None = None) -> Bundle:
    """A bundle whose joint space is RGB; a `turn` matrix (3, 3) distorts one tower."""
    folder.mkdir()
    words = models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0])
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    named = np.array([(0, 0, 0), *COLOURS.values()], np.float32) - 110
    normalised = """
            length = ReduceL2<axes = [1], keepdims = 1>(turned)
            joint = Div(turned, length)
            head = Slice(joint, zero, zero, one)
        }"""
    ends = {"zero": np.array([0], np.int64), "one": np.array([1], np.int64)}
    graphs = {
        "image.onnx": subgraph(
            f"""
        image (uint8[N,{SIDE},{SIDE},3] pixels) => (float[N,3] joint, float[N,0] head) {{
            levels = Cast<to = 1>(pixels)
            mean = ReduceMean<axes = [1, 2], keepdims = 0>(levels)
            centred = Sub(mean, middle)
            turned = MatMul(centred, turn){normalised}""",
            middle=np.float32(110),
            turn=np.eye(3, dtype=np.float32) if image_turn is None else image_turn,
            **ends,
        ),
        "text.onnx": subgraph(
            f"""
        text (int64[N,L] input_ids, int64[N,L] attention_mask) => (float[N,3] joint, float[N,0] head) {{
            words = Gather(named, input_ids)
            there = Cast<to = 1>(attention_mask)
            column = Unsqueeze(there, last)
            kept = Mul(words, column)
            sum = ReduceSum<keepdims = 0>(kept, one)
            turned = MatMul(sum, turn){normalised}""",
            named=named,
            last=np.array([2], np.int64),
            turn=np.eye(3, dtype=np.float32) if text_turn is None else text_turn,
            **ends,
        ),
        "score.onnx": subgraph("score (float[N] similarity) => (float[N] score) { score = Sigmoid(similarity) }"),
    }
    graphs["text.onnx"] = of_tower("words", graphs["text.onnx"])
    for name, model in graphs.items():
        (folder / name).write_bytes(model.SerializeToString())
    pixels = ImageInput(
        name="pixels",
        height=SIDE,
        width=SIDE,
        fit="squash",
        fit_transparent="squash",
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    Manifest.build(
        pack="colours",
        towers=(),
        dimensions=Dimensions(joint=3, image_head=0, text_head=0),
        image_inputs=(pixels,),
        text_inputs=(TextInput(name="words", tokenizer="tokenizer.json", max_tokens=8, pad_id=0),),
        head=Head(kind="cosine", calibrated=True, validation={}),
        alignment={},
        precision="fp32",
        recipes={name: sha256_of(folder / name) for name in graphs},
        files={name: sha256_of(folder / name) for name in (*graphs, "tokenizer.json")},
        parity_error={},
        created="2026-01-01T00:00:00+00:00",
    ).write(folder / "manifest.json")
    return Bundle.load(folder)


def of_tower(tower: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """Prefix the input names with the tower's name; the ONNX text syntax does not allow dots."""
    for node_input in model.graph.input:
        for node in model.graph.node:
            node.input[:] = [f"{tower}.{name}" if name == node_input.name else name for name in node.input]
        node_input.name = f"{tower}.{node_input.name}"
    return model


@pytest.fixture
def fp32(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "fp32")


@pytest.fixture
def inverted(tmp_path: Path) -> Bundle:
    """A bundle whose image tower inverts every colour."""
    return write_bundle(tmp_path / "backwards", image_turn=-np.eye(3, dtype=np.float32))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """24 images: six noisy samples of each colour."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = []
    for name, colour in COLOURS.items():
        for i in range(6):
            levels = np.clip(np.array(colour) + rng.integers(-25, 25, (SIDE, SIDE, 3)), 0, 255)
            paths.append(folder / f"{name}{i}.png")
            Image.fromarray(levels.astype(np.uint8)).save(paths[-1])
    return paths


@pytest.fixture
def data(pictures: list[Path], tmp_path: Path) -> AccuracyData:
    """Each image captioned with its colour, and expert ratings by colour."""
    captions, ratings = ["image\tcaption_id\tcaption"], ["image\tcaption_id\ts1\ts2\ts3"]
    for path in pictures:
        own = path.stem[:-1]
        captions.append(f"{path.name}\t{path.name}#0\t{own}")
        for other in COLOURS:
            score = 4 if other == own else 1
            ratings.append(f"{path.name}\t{other}0.png#0\t{score}\t{score}\t{max(1, score - 1)}")
    (tmp_path / "captions.tsv").write_text("\n".join(captions) + "\n", encoding="utf-8")
    (tmp_path / "expert.tsv").write_text("\n".join(ratings) + "\n", encoding="utf-8")
    return AccuracyData(pictures[0].parent, tmp_path / "captions.tsv", expert=tmp_path / "expert.tsv")


def test_identical_bundles_have_no_accuracy_loss(fp32: Bundle, pictures: list[Path], data: AccuracyData) -> None:
    accuracy_loss = measure_accuracy_loss(fp32, fp32, pictures, list(COLOURS), data)
    for cosine, count in (
        (accuracy_loss.image_cosine, 24),
        (accuracy_loss.text_cosine, 4),
        (accuracy_loss.batch_cosine, 4),
    ):
        assert (cosine.mean, cosine.least) == pytest.approx((1, 1), abs=1e-6)
        assert cosine.count == count
    assert accuracy_loss.score == Difference(0, 0, 96)
    assert {name: loss.points for name, loss in accuracy_loss.loss.items()} == {RECALL: 0, TAU_C: 0}
    check(accuracy_loss)


def test_loss_is_difference_of_metrics_in_points(
    fp32: Bundle, inverted: Bundle, pictures: list[Path], data: AccuracyData
) -> None:
    loss = measure_accuracy_loss(fp32, inverted, pictures, list(COLOURS), data).loss
    assert loss[RECALL].fp32 > 70
    assert loss[RECALL].converted == 0
    assert loss[RECALL].count == 24
    assert loss[TAU_C].fp32 > 30
    assert loss[TAU_C].converted < 0
    assert loss[TAU_C].count == 96 - 4, "pairs of an image and its own caption are not counted"


def test_split_limits_images_for_recall(fp32: Bundle, pictures: list[Path], data: AccuracyData, tmp_path: Path) -> None:
    (tmp_path / "split.txt").write_text("red0.png\nblue3.png\n", encoding="utf-8")
    chosen = replace(data, split=tmp_path / "split.txt", expert=None)
    loss = measure_accuracy_loss(fp32, fp32, pictures[:1], ["red"], chosen).loss
    assert set(loss) == {RECALL}
    assert loss[RECALL] == Loss(100, 100, 2)


def test_check_rejects_image_tower_loss_and_suggests_force(
    fp32: Bundle, inverted: Bundle, pictures: list[Path]
) -> None:
    accuracy_loss = measure_accuracy_loss(fp32, inverted, pictures, list(COLOURS))
    with pytest.raises(ExportError, match=r"mean cosine of images to fp32 is -1\.0000, under 0\.985") as refused:
        check(accuracy_loss)
    assert "texts" not in refused.value.what
    assert "--force" in refused.value.hint


def test_check_rejects_text_tower_loss(fp32: Bundle, pictures: list[Path], tmp_path: Path) -> None:
    mixed = np.eye(3, dtype=np.float32) + 0.8 * np.ones((3, 3), np.float32)
    accuracy_loss = measure_accuracy_loss(
        fp32, write_bundle(tmp_path / "mixed", text_turn=mixed), pictures, list(COLOURS)
    )
    with pytest.raises(ExportError, match="mean cosine of texts") as refused:
        check(accuracy_loss)
    assert "images" not in refused.value.what


def test_forced_check_logs_warning(
    fp32: Bundle, inverted: Bundle, pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    accuracy_loss = measure_accuracy_loss(fp32, inverted, pictures, list(COLOURS))
    with caplog.at_level(logging.WARNING):
        check(accuracy_loss, forced=True)
    assert "mean cosine of images" in caplog.text


def test_check_rejects_nan_vectors(fp32: Bundle, pictures: list[Path], tmp_path: Path) -> None:
    broken = write_bundle(tmp_path / "broken", image_turn=np.full((3, 3), np.nan, np.float32))
    accuracy_loss = measure_accuracy_loss(fp32, broken, pictures, list(COLOURS))
    assert accuracy_loss.image_cosine.mean == -1
    assert accuracy_loss.score.largest == 1
    with pytest.raises(ExportError, match="mean cosine of images"):
        check(accuracy_loss)


def test_measurement_without_texts_is_rejected(fp32: Bundle, pictures: list[Path]) -> None:
    with pytest.raises(DataError, match="no text"):
        measure_accuracy_loss(fp32, fp32, pictures, [])


def test_check_rejects_exactly_metrics_over_limit() -> None:
    same, none = Cosine(1, 1, 1), Difference(0, 0, 1)
    for recall, tau, named in ((1.0, 0.5, ()), (1.5, 0.0, (RECALL,)), (0.0, 1.0, (TAU_C,)), (2, 2, (RECALL, TAU_C))):
        loss = {RECALL: Loss(60, 60 - recall, 10), TAU_C: Loss(50, 50 - tau, 10)}
        accuracy_loss = AccuracyLoss(same, same, same, none, loss)
        if not named:
            check(accuracy_loss)
            continue
        with pytest.raises(ExportError) as refused:
            check(accuracy_loss)
        assert [name for name in (RECALL, TAU_C) if f"{name} (x100) falls by" in refused.value.what] == list(named)


def test_accuracy_loss_json_includes_limits(fp32: Bundle, pictures: list[Path], data: AccuracyData) -> None:
    document = measure_accuracy_loss(fp32, fp32, pictures, list(COLOURS), data).to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["image_cosine"] == {"mean": 1.0, "least": 1.0, "count": 24}
    assert set(document["loss"]) == {RECALL, TAU_C}
    assert document["loss"][RECALL]["points"] == 0
    assert document["limits"]["recall"] == 1.0


@given(
    st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(0.125, 8, width=32),
)
def test_cosine_is_scale_invariant_and_bounded(rows: list[list[float]], scale: float) -> None:
    vectors = np.array(rows, np.float32)
    vectors[np.linalg.norm(vectors, axis=1) < 1e-3] = 1
    same = Cosine.of(vectors * np.float32(scale), vectors)
    assert (same.mean, same.least) == pytest.approx((1, 1), abs=1e-5)
    rolled = Cosine.of(np.roll(vectors, 1, axis=1), vectors)
    assert -1 - 1e-6 <= rolled.least <= rolled.mean + 1e-9
    assert rolled.mean <= 1 + 1e-6
