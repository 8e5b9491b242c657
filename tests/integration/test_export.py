"""Export writes a verified bundle or nothing, and the same input gives the same fingerprint."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sceneseek_export.bundle
from sceneseek.bundle import Bundle
from sceneseek.errors import DataError, ExportError
from sceneseek.models import ModelRegistry
from sceneseek.picture import Picture
from sceneseek.preprocess import prepare
from sceneseek.queries import Query
from sceneseek.reranker import Reranker
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek.vectors import Floats
from sceneseek_export.bundle import EXPORTER, export_bundle
from sceneseek_export.composition import image_graph
from sceneseek_export.heads import INPUTS, Head, TreesHead, save_head
from sceneseek_export.packs import find_pack
from sceneseek_export.parity import LIMIT, ROUNDED_LIMIT, drawn_pictures
from sceneseek_export.towers import Towers, load_towers
from sceneseek_export.trained import Trained, shipped_alignment
from sceneseek_indexer.build import index_folder
from tests.command_line import CommandLine
from tests.drawing import NAMES
from tests.weights import drawn_head, with_space

PACK = find_pack("compact")
# The first digits of the sha256 of what the exporter of this number writes for the compact pack.
GRAPHS = {
    "image.onnx": "5413d26c96cc0d68",
    "image.onnx.data": "9c9fa7b71dca565b",
    "text.onnx": "386c5f3ecd64bfde",
    "text.onnx.data": "b898ffe779d7554a",
    "score.onnx": "daf9b79b84ff5f1d",
    "score.onnx.data": "f350b9bbd0e1145d",
    "minilm.tokenizer.json": "be50c3628f2bf5bb",
    "e5.tokenizer.npz": "d4bb309ed90f8e71",
}


@pytest.fixture(scope="module")
def towers() -> Towers:
    return load_towers(PACK)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained.load(shipped_alignment(PACK), None)


def drawn(kind: str, trained: Trained, *inputs: str) -> Head:
    """A head of the product's shape with weights drawn at random: what matters here is that it is split right."""
    widths = {
        "similarity": 1,
        "product": trained.alignment.joint,
        "image": 192 + 320 + 1280 + 208 + 352 + 1280,  # means of the last stages of both towers
        "text": 2 * 384,
        "spread": trained.alignment.spread,
    }
    head: Any = drawn_head(kind, {name: widths[name] for name in inputs}, towers=("lite0", "lite2"))
    said: Head = replace(head, alignment=trained.alignment.fingerprint)
    return said


@pytest.fixture(scope="module")
def mlp_bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory, gallery: Path, towers: Towers) -> Bundle:
    """With a network that reads everything, come from its files."""
    folder = tmp_path_factory.mktemp("mlp")
    save_head(drawn("mlp", trained, *INPUTS), folder / "head")
    loaded = Trained.load(shipped_alignment(PACK), folder / "head")
    return export_bundle(PACK, loaded, folder / "bundle", verify_on=gallery, towers=towers)


@pytest.fixture(scope="module")
def exchanged(trained: Trained, tmp_path_factory: pytest.TempPathFactory, towers: Towers) -> Bundle:
    """With a network that reads no image features."""
    head = drawn("mlp", trained, "similarity", "product", "text", "spread")
    out = tmp_path_factory.mktemp("exchanged") / "bundle"
    return export_bundle(PACK, replace(trained, head=head), out, towers=towers)


def test_the_manifest_describes_the_bundle(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert [tower.name for tower in manifest.towers] == ["lite0", "lite2", "minilm", "e5"]
    assert all(len(tower.sha256) == 64 for tower in manifest.towers)
    assert set(manifest.files) == set(GRAPHS)
    assert set(manifest.parity_error) == {"image.joint", "text.joint", "score"}
    assert 0 < manifest.parity_error["image.joint"] <= LIMIT
    assert 0 < max(manifest.parity_error.values()) <= ROUNDED_LIMIT
    assert manifest.head.kind == "mlp"
    assert manifest.head.validation["trained_on"][0]["name"] == "expert.tsv"
    assert manifest.dimensions.image_head == 0  # the default head is exchanged without indexing again


def test_no_path_of_the_exporting_machine_is_in_the_bundle(bundle: Bundle) -> None:
    for name in (*GRAPHS, "manifest.json"):
        content = (bundle.path / name).read_bytes()
        assert b"site-packages" not in content
        assert f"{Path.home()}/".encode() not in content


def test_the_same_input_gives_the_same_files_whatever_the_processor(
    bundle: Bundle, sceneseek: CommandLine, tmp_path: Path
) -> None:
    """Other threads, and none of the instructions that these libraries would choose by the processor."""
    flags = {
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_CORETYPE": "Prescott",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX2 FMA3",
        "SCENESEEK_THREADS": "1",
    }
    done = sceneseek.process("export", "--out", tmp_path / "again", **flags)
    assert done.returncode == 0, done.stderr
    again = Bundle.load(tmp_path / "again")
    assert again.manifest.files == bundle.manifest.files
    assert again.manifest.fingerprints == bundle.manifest.fingerprints


def test_an_exporter_that_gives_other_graphs_has_another_number(bundle: Bundle) -> None:
    """If this fails, the graphs changed: raise `bundle.EXPORTER` if vectors or scores do, then correct this."""
    files = {name: digest[:16] for name, digest in bundle.manifest.files.items()}
    assert (EXPORTER, files) == (2, GRAPHS)
    fingerprints = bundle.manifest.fingerprints
    assert (fingerprints.bundle[:12], fingerprints.image[:12]) == ("e4299aa680bd", "f174bc068ec6")


def test_a_parity_error_over_the_limit_raises_and_writes_no_bundle(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, towers: Towers
) -> None:
    first, *others = trained.alignment.spaces[-1].blocks
    other = with_space(trained.alignment, blocks=(replace(first, image_bias=first.image_bias + 1), *others))

    def from_another_alignment(towers: object, inputs: object, _: object, head: object) -> object:
        return image_graph(towers, inputs, other, head)  # type: ignore[arg-type]

    monkeypatch.setattr(sceneseek_export.bundle, "image_graph", from_another_alignment)
    with pytest.raises(ExportError, match=r"image\.joint differs"):
        export_bundle(PACK, trained, tmp_path / "bundle", towers=towers)
    assert list(tmp_path.iterdir()) == []


def test_a_network_is_split_over_the_graphs_and_equals_the_unsplit_one(mlp_bundle: Bundle) -> None:
    # The check at export compares the three graphs with the unsplit head on images and texts.
    manifest = mlp_bundle.manifest
    assert manifest.head.kind == "mlp"
    assert (manifest.dimensions.image_head, manifest.dimensions.text_head) == (9, 9)
    assert manifest.parity_error["score"] <= 1e-5
    assert Reranker(mlp_bundle).reads == {"similarity", "image_joint", "image_head", "text_joint", "text_head"}


def test_trees_split_over_the_graphs_equal_the_unsplit_ones_also_on_borders(
    trained: Trained, tmp_path: Path, towers: Towers
) -> None:
    head = drawn("catboost", trained, *INPUTS)
    assert isinstance(head, TreesHead)
    # By the reference no feature of this picture is over the border; in the graph, by its last digit, half of them are.
    on_borders = reference_features(towers, trained, next(drawn_pictures()))
    place = head.feature - 1 - trained.alignment.joint
    of_image = (place >= 0) & (place < len(on_borders))
    border = np.where(of_image, on_borders[np.clip(place, 0, len(on_borders) - 1)], head.border)
    split = replace(trained, head=replace(head, border=border))
    bundle = export_bundle(PACK, split, tmp_path / "bundle", towers=towers)
    manifest = bundle.manifest
    assert manifest.head.kind == "catboost"
    assert (manifest.dimensions.image_head, manifest.dimensions.text_head) == (3632, 2 * 384 + trained.alignment.spread)
    assert manifest.parity_error["score"] <= 1e-5
    assert 0 < max(manifest.parity_error["image.head"], manifest.parity_error["text.head"]) <= LIMIT


def reference_features(towers: Towers, trained: Trained, picture: Picture) -> Floats:
    """Of one picture, both towers' side by side, in their ranges."""
    found = {}
    for tower in towers.images:
        (pixels,) = prepare(picture, (tower.input,))
        levels = ((pixels - np.array(tower.input.mean)) / np.array(tower.input.std)).astype(np.float32)
        found[tower.spec.name], _ = tower.reference(np.ascontiguousarray(levels.transpose(2, 0, 1)[None]))
    side_by_side: Floats = np.concatenate(list(trained.alignment.clipped(found).values()), axis=1)[0]
    return side_by_side


def test_a_network_indexes_and_searches_and_reorders(mlp_bundle: Bundle, tmp_path: Path, gallery: Path) -> None:
    store = open_store(f"file:{tmp_path}/index")
    assert index_folder(gallery, mlp_bundle, store).indexed == len(NAMES)
    search = Search(ModelRegistry(mlp_bundle), store)
    try:
        results = search.query(Query(text="a red circle", k=12)).results
    finally:
        search.close()
    scores = [r.score or 0.0 for r in results]
    assert scores == sorted(scores, reverse=True)
    assert [r.similarity for r in results] != sorted((r.similarity for r in results), reverse=True)


def test_a_head_without_image_features_is_exchanged_over_the_same_index(
    bundle: Bundle, exchanged: Bundle, index_url: str, tmp_path: Path
) -> None:
    assert exchanged.manifest.dimensions.image_head == 0
    assert exchanged.manifest.parity_error["score"] <= 1e-5
    assert exchanged.manifest.fingerprints.image == bundle.manifest.fingerprints.image
    assert exchanged.manifest.fingerprints.bundle != bundle.manifest.fingerprints.bundle
    shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index")
    found = {}
    for name, one in (("before", bundle), ("after", exchanged)):
        search = Search(ModelRegistry(one), open_store(f"file:{tmp_path}/index"))
        try:
            found[name] = {
                r.path: (r.score or 0.0, r.similarity) for r in search.query(Query(text="a red circle", k=12)).results
            }
        finally:
            search.close()
    assert found["before"].keys() == found["after"].keys() == set(NAMES)
    for path, (_, similarity) in found["before"].items():
        assert found["after"][path][1] == pytest.approx(similarity, abs=1e-6)
    assert max(abs(found["after"][path][0] - score) for path, (score, _) in found["before"].items()) > 0.01


def test_a_head_with_image_features_needs_an_index_of_its_own(
    bundle: Bundle, mlp_bundle: Bundle, index_url: str, tmp_path: Path
) -> None:
    assert mlp_bundle.manifest.fingerprints.image != bundle.manifest.fingerprints.image
    shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index")
    search = Search(ModelRegistry(mlp_bundle), open_store(f"file:{tmp_path}/index"))
    try:
        assert search.bundle.path == bundle.path  # the one that filled the index answers in its place
    finally:
        search.close()


def test_a_head_of_another_alignment_is_refused(trained: Trained, tmp_path: Path) -> None:
    other = with_space(trained.alignment, hubness=None)
    strange = replace(trained, head=drawn("mlp", replace(trained, alignment=other), "similarity", "product"))
    with pytest.raises(ExportError, match=rf"joint space \({other.fingerprint[:12]}.*sceneseek train heads"):
        export_bundle(PACK, strange, tmp_path / "b")
    nameless: Any = drawn("mlp", trained, "similarity", "product")
    with pytest.raises(ExportError, match=r"joint space \(it does not say which.*sceneseek train heads"):
        export_bundle(PACK, replace(trained, head=replace(nameless, alignment="")), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_parts_that_do_not_fit_are_refused(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="trained for the pack 'other'"):
        export_bundle(PACK, replace(trained, alignment=replace(trained.alignment, pack="other")), tmp_path / "b")
    head: Any = drawn("linear", trained, "similarity", "spread")
    untypical = replace(
        trained.alignment, spaces=tuple(replace(space, typical=None) for space in trained.alignment.spaces)
    )
    with pytest.raises(ExportError, match="how typical images lie"):
        export_bundle(PACK, Trained(untypical, replace(head, alignment=untypical.fingerprint)), tmp_path / "b")
    with pytest.raises(DataError, match="sceneseek train alignment"):
        Trained.load(tmp_path / "nowhere", None)
    with pytest.raises(ExportError, match="train one"):
        shipped_alignment(replace(PACK, name="unknown"))
    assert list(tmp_path.iterdir()) == []
