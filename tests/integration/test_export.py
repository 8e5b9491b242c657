"""Export writes a verified bundle or nothing, and the same input gives the same fingerprint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import export.bundle
from export.bundle import Trained, export_bundle, shipped_alignment
from export.compose import image_graph
from export.verify import LIMIT
from sceneseek.bundle import Bundle
from sceneseek.errors import DataError, ExportError
from sceneseek.files import sha256_of
from sceneseek.heads import MlpHead
from sceneseek.packs import find_pack
from sceneseek.scorer import Scorer
from sceneseek.search import Search
from sceneseek.store import open_store
from tests.drawing import NAMES

PACK = find_pack("compact")


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained.load(shipped_alignment(PACK), None)


@pytest.fixture(scope="module")
def mlp(trained: Trained) -> MlpHead:
    """An MLP of the product's shape with weights drawn at random: what matters here is that it is split right."""
    rng = np.random.default_rng(0)

    def weights(*shape: int, scale: float = 0.05) -> np.ndarray:
        return (scale * rng.normal(size=shape)).astype(np.float32)

    joint = trained.alignment.joint
    return MlpHead(
        calibration=trained.alignment.calibration,
        towers=("lite0",),
        cosine=weights(32, scale=1),
        product=weights(32, joint, scale=1),
        image=weights(32, 1280),
        text=weights(32, 384, scale=0.5),
        bias=weights(32),
        layers=((weights(16, 32, scale=0.3), weights(16)), (weights(1, 16, scale=0.5), weights(1))),
    )


def test_the_manifest_tells_what_the_bundle_is(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert [tower.name for tower in manifest.towers] == ["lite0", "minilm"]
    assert all(len(tower.sha256) == 64 for tower in manifest.towers)
    assert set(manifest.files) == {"image.onnx", "text.onnx", "score.onnx", "tokenizer.json"}
    assert set(manifest.drift) == {"image.joint", "text.joint", "score"}
    assert 0 < max(manifest.drift.values()) <= LIMIT
    assert manifest.head.kind == "cosine"


def test_no_path_of_the_exporting_machine_is_in_the_bundle(bundle: Bundle) -> None:
    for name in ("image.onnx", "text.onnx", "score.onnx", "manifest.json"):
        content = (bundle.path / name).read_bytes()
        assert b"site-packages" not in content
        assert str(Path.home()).encode() not in content


def test_the_same_input_gives_the_same_files(bundle: Bundle, trained: Trained, tmp_path: Path) -> None:
    again = export_bundle(PACK, trained, tmp_path / "again")
    assert again.manifest.fingerprints == bundle.manifest.fingerprints
    for name in bundle.manifest.files:
        assert sha256_of(again.path / name) == sha256_of(bundle.path / name)


def test_a_drift_over_the_limit_raises_and_shows_no_bundle(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(trained.alignment.blocks[0], image_bias=trained.alignment.blocks[0].image_bias + 1)
    other = replace(trained.alignment, blocks=(wrong, *trained.alignment.blocks[1:]))

    def from_another_alignment(towers: object, inputs: object, _: object, head: object) -> object:
        return image_graph(towers, inputs, other, head)  # type: ignore[arg-type]

    monkeypatch.setattr(export.bundle, "image_graph", from_another_alignment)
    with pytest.raises(ExportError, match=r"image\.joint differs"):
        export_bundle(PACK, trained, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_mlp_is_split_over_the_graphs_and_equals_the_unsplit_head(
    trained: Trained, mlp: MlpHead, tmp_path: Path, gallery: Path
) -> None:
    # The check at export compares the three graphs with the unsplit head on images and texts.
    bundle = export_bundle(PACK, replace(trained, head=mlp), tmp_path / "bundle", verify_on=gallery)
    assert bundle.manifest.head.kind == "mlp"
    assert bundle.manifest.dimensions.image_head == 32
    assert bundle.manifest.drift["score"] <= 1e-5
    assert Scorer(bundle).reads == {"similarity", "image_joint", "image_head", "text_joint", "text_head"}


def test_an_mlp_bundle_indexes_and_searches_and_reorders(
    trained: Trained, mlp: MlpHead, tmp_path: Path, gallery: Path
) -> None:
    from indexer.build import index_folder  # noqa: PLC0415 - beside its only use

    mlp.save(tmp_path / "head")
    loaded = Trained.load(shipped_alignment(PACK), tmp_path / "head")
    bundle = export_bundle(PACK, loaded, tmp_path / "bundle")
    store = open_store(f"file:{tmp_path}/index")
    assert index_folder(gallery, bundle, store).indexed == len(NAMES)
    search = Search(bundle, store)
    try:
        results = search.query("a red circle", k=12).results
    finally:
        search.close()
    assert [r.score for r in results] == sorted((r.score for r in results), reverse=True)
    assert [r.similarity for r in results] != sorted((r.similarity for r in results), reverse=True)


def test_parts_that_do_not_fit_are_refused(trained: Trained, mlp: MlpHead, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="trained for the pack 'other'"):
        export_bundle(PACK, replace(trained, alignment=replace(trained.alignment, pack="other")), tmp_path / "b")
    narrow = replace(mlp, product=mlp.product[:, :-1])
    with pytest.raises(ExportError, match="joint dimensions"):
        export_bundle(PACK, replace(trained, head=narrow), tmp_path / "b")
    with pytest.raises(DataError, match="sceneseek train alignment"):
        Trained.load(tmp_path / "nowhere", None)
    with pytest.raises(ExportError, match="train one"):
        shipped_alignment(replace(PACK, name="unknown"))
    assert list(tmp_path.iterdir()) == []
