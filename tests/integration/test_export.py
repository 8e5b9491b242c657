"""Export writes a verified bundle or nothing, and is reproducible."""

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
# SHA-256 prefixes of the compact pack's files, as written by the exporter version asserted below.
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


def random_head(kind: str, trained: Trained, *inputs: str) -> Head:
    """A random head with the real input widths: these tests check how it is split."""
    widths = {
        "similarity": 1,
        "product": trained.alignment.joint,
        "image": 192 + 320 + 1280 + 208 + 352 + 1280,  # means of the last stages of both towers
        "text": 2 * 384,
        "spread": trained.alignment.spread,
    }
    head: Any = drawn_head(kind, {name: widths[name] for name in inputs}, towers=("lite0", "lite2"))
    aligned: Head = replace(head, alignment=trained.alignment.fingerprint)
    return aligned


@pytest.fixture(scope="module")
def mlp_bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory, gallery: Path, towers: Towers) -> Bundle:
    """A bundle whose head is an MLP that reads every input, loaded from files."""
    folder = tmp_path_factory.mktemp("mlp")
    save_head(random_head("mlp", trained, *INPUTS), folder / "head")
    loaded = Trained.load(shipped_alignment(PACK), folder / "head")
    return export_bundle(PACK, loaded, folder / "bundle", verify_on=gallery, towers=towers)


@pytest.fixture(scope="module")
def other_head_bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory, towers: Towers) -> Bundle:
    """A bundle whose head is an MLP that reads no image features."""
    head = random_head("mlp", trained, "similarity", "product", "text", "spread")
    out = tmp_path_factory.mktemp("exchanged") / "bundle"
    return export_bundle(PACK, replace(trained, head=head), out, towers=towers)


def test_manifest_describes_the_bundle(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert [tower.name for tower in manifest.towers] == ["lite0", "lite2", "minilm", "e5"]
    assert all(len(tower.sha256) == 64 for tower in manifest.towers)
    assert set(manifest.files) == set(GRAPHS)
    assert set(manifest.parity_error) == {"image.joint", "text.joint", "score"}
    assert 0 < manifest.parity_error["image.joint"] <= LIMIT
    assert 0 < max(manifest.parity_error.values()) <= ROUNDED_LIMIT
    assert manifest.head.kind == "mlp"
    assert manifest.head.validation["trained_on"][0]["name"] == "expert.tsv"
    assert manifest.dimensions.image_head == 0  # the default head can be replaced without reindexing


def test_bundle_contains_no_paths_of_the_exporting_machine(bundle: Bundle) -> None:
    for name in (*GRAPHS, "manifest.json"):
        content = (bundle.path / name).read_bytes()
        assert b"site-packages" not in content
        assert f"{Path.home()}/".encode() not in content


def test_export_is_reproducible_across_threads_and_cpu_features(
    bundle: Bundle, sceneseek: CommandLine, tmp_path: Path
) -> None:
    """Export with other thread counts and without the CPU features that the libraries would detect."""
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


def test_exporter_version_changes_with_the_exported_files(bundle: Bundle) -> None:
    """If this fails, the graphs changed: increment `bundle.EXPORTER` if vectors or scores changed, then update it."""
    files = {name: digest[:16] for name, digest in bundle.manifest.files.items()}
    assert (EXPORTER, files) == (2, GRAPHS)
    fingerprints = bundle.manifest.fingerprints
    assert (fingerprints.bundle[:12], fingerprints.image[:12]) == ("e4299aa680bd", "f174bc068ec6")


def test_export_raises_and_writes_nothing_if_parity_exceeds_the_limit(
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


def test_split_mlp_head_equals_the_unsplit_head(mlp_bundle: Bundle) -> None:
    # Export compares the three graphs with the unsplit head on images and texts.
    manifest = mlp_bundle.manifest
    assert manifest.head.kind == "mlp"
    assert (manifest.dimensions.image_head, manifest.dimensions.text_head) == (9, 9)
    assert manifest.parity_error["score"] <= 1e-5
    assert Reranker(mlp_bundle).reads == {"similarity", "image_joint", "image_head", "text_joint", "text_head"}


def test_split_tree_head_equals_the_unsplit_head_at_borders(trained: Trained, tmp_path: Path, towers: Towers) -> None:
    head = random_head("catboost", trained, *INPUTS)
    assert isinstance(head, TreesHead)
    # The borders equal this image's reference features, so rounding in the graph puts about half of them above.
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
    """The features of both image towers, clipped to their ranges and concatenated."""
    features = {}
    for tower in towers.images:
        (pixels,) = prepare(picture, (tower.input,))
        levels = ((pixels - np.array(tower.input.mean)) / np.array(tower.input.std)).astype(np.float32)
        features[tower.spec.name], _ = tower.reference(np.ascontiguousarray(levels.transpose(2, 0, 1)[None]))
    concatenated: Floats = np.concatenate(list(trained.alignment.clipped(features).values()), axis=1)[0]
    return concatenated


def test_mlp_bundle_indexes_searches_and_reranks(mlp_bundle: Bundle, tmp_path: Path, gallery: Path) -> None:
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


def test_head_without_image_features_is_replaceable_without_reindexing(
    bundle: Bundle, other_head_bundle: Bundle, index_url: str, tmp_path: Path
) -> None:
    assert other_head_bundle.manifest.dimensions.image_head == 0
    assert other_head_bundle.manifest.parity_error["score"] <= 1e-5
    assert other_head_bundle.manifest.fingerprints.image == bundle.manifest.fingerprints.image
    assert other_head_bundle.manifest.fingerprints.bundle != bundle.manifest.fingerprints.bundle
    shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index")
    results = {}
    for name, one in (("before", bundle), ("after", other_head_bundle)):
        search = Search(ModelRegistry(one), open_store(f"file:{tmp_path}/index"))
        try:
            results[name] = {
                r.path: (r.score or 0.0, r.similarity) for r in search.query(Query(text="a red circle", k=12)).results
            }
        finally:
            search.close()
    assert results["before"].keys() == results["after"].keys() == set(NAMES)
    for path, (_, similarity) in results["before"].items():
        assert results["after"][path][1] == pytest.approx(similarity, abs=1e-6)
    assert max(abs(results["after"][path][0] - score) for path, (score, _) in results["before"].items()) > 0.01


def test_head_with_image_features_requires_a_new_index(
    bundle: Bundle, mlp_bundle: Bundle, index_url: str, tmp_path: Path
) -> None:
    assert mlp_bundle.manifest.fingerprints.image != bundle.manifest.fingerprints.image
    shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index")
    search = Search(ModelRegistry(mlp_bundle), open_store(f"file:{tmp_path}/index"))
    try:
        assert search.bundle.path == bundle.path  # falls back to the bundle that filled the index
    finally:
        search.close()


def test_export_rejects_a_head_of_another_alignment(trained: Trained, tmp_path: Path) -> None:
    other = with_space(trained.alignment, hubness=None)
    mismatched = replace(trained, head=random_head("mlp", replace(trained, alignment=other), "similarity", "product"))
    with pytest.raises(ExportError, match=rf"joint space \({other.fingerprint[:12]}.*sceneseek train heads"):
        export_bundle(PACK, mismatched, tmp_path / "b")
    unaligned: Any = random_head("mlp", trained, "similarity", "product")
    with pytest.raises(ExportError, match=r"joint space \(not recorded.*sceneseek train heads"):
        export_bundle(PACK, replace(trained, head=replace(unaligned, alignment="")), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_export_rejects_incompatible_or_missing_parts(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="trained for the pack 'other'"):
        export_bundle(PACK, replace(trained, alignment=replace(trained.alignment, pack="other")), tmp_path / "b")
    head: Any = random_head("linear", trained, "similarity", "spread")
    untypical = replace(
        trained.alignment, spaces=tuple(replace(space, typical=None) for space in trained.alignment.spaces)
    )
    with pytest.raises(ExportError, match="distribution of typical images"):
        export_bundle(PACK, Trained(untypical, replace(head, alignment=untypical.fingerprint)), tmp_path / "b")
    with pytest.raises(DataError, match="sceneseek train alignment"):
        Trained.load(tmp_path / "nowhere", None)
    with pytest.raises(ExportError, match="train one"):
        shipped_alignment(replace(PACK, name="unknown"))
    assert list(tmp_path.iterdir()) == []
