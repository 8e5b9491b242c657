"""An alignment and a head come back from their files as they were, or say what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sceneseek.alignment import Alignment, ClassNames, LearnedBlock, normalise, rounded
from sceneseek.errors import DataError
from sceneseek.heads import Calibration, MlpHead


def alignment() -> Alignment:
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rounded(rng.normal(size=shape).astype(np.float32))

    names = ClassNames("t", rounded(normalise(weights(10, 4))), 1.5, 3)
    block = LearnedBlock(("t",), weights(8, 9), weights(8), weights(8, 4), weights(8), share=0.75)
    return Alignment("compact", (block,), names, 0.25, Calibration(7.5, -2.5, "test", {"rmse": 0.2}), {"seed": 1})


def test_what_was_evaluated_is_what_comes_back(tmp_path: Path) -> None:
    before = alignment()
    before.save(tmp_path)
    after = Alignment.load(tmp_path)
    rng = np.random.default_rng(1)
    features, logits = {"t": rng.normal(size=(5, 5)).astype("f4")}, {"t": rng.normal(size=(5, 10)).astype("f4")}
    np.testing.assert_array_equal(before.image_joint(features, logits), after.image_joint(features, logits))
    assert after.card == {"seed": 1}
    assert after.calibration == before.calibration


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        alignment().save(tmp_path / name)
    for file in ("alignment.npz", "alignment.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_missing_alignment_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sceneseek train alignment"):
        Alignment.load(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["alignment.npz", "alignment.json"])
def test_a_broken_alignment_is_named(tmp_path: Path, file: str) -> None:
    alignment().save(tmp_path)
    (tmp_path / file).write_bytes(b"{}")
    with pytest.raises(DataError, match="cannot be read"):
        Alignment.load(tmp_path)


def test_an_mlp_head_comes_back_from_its_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    head = MlpHead(
        Calibration(5, -1, "test"),
        ("t",),
        weights(6),
        weights(6, 4),
        weights(6, 5),
        weights(6, 3),
        weights(6),
        ((weights(1, 6), weights(1)),),
        {"rmse": 0.1},
    )
    head.save(tmp_path)
    inputs = weights(7, 4), weights(7, 5), weights(4), weights(3)
    np.testing.assert_array_equal(MlpHead.load(tmp_path).score(*inputs), head.score(*inputs))
    with pytest.raises(DataError, match="no head"):
        MlpHead.load(tmp_path / "nowhere")
