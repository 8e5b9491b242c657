"""Evaluations use the scores and order of a search, also for a head that reads every vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneseek.bundle import Bundle
from sceneseek.captions import Caption
from sceneseek.errors import DataError
from sceneseek.models import ModelRegistry
from sceneseek.queries import Query
from sceneseek.reranker import Reranker
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek.vectors import Candidates
from sceneseek_evaluation.absence import evaluate_absence
from sceneseek_evaluation.figures import Bootstrap
from sceneseek_evaluation.pairs import encode_images, encode_texts, score_pairs
from sceneseek_evaluation.retrieval import evaluate_retrieval, ranking_figures, rescored_rank
from sceneseek_export.bundle import export_bundle
from sceneseek_export.heads import Head
from sceneseek_export.packs import find_pack
from sceneseek_export.trained import Trained, shipped_alignment
from sceneseek_indexer.build import index_folder
from tests.drawing import NAMES
from tests.weights import drawn_head

TEXTS = [Path(name).stem for name in NAMES]


@pytest.fixture(scope="module")
def mlp_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with a random head, so that its order differs from the cosine's."""
    pack = find_pack("compact")
    trained = Trained.load(shipped_alignment(pack), None)
    # The image features come from the tower's last two stages and its last convolution.
    widths = {"similarity": 1, "product": trained.alignment.joint, "image": 192 + 320 + 1280, "text": 2 * 384}
    drawn: Any = drawn_head("mlp", widths, seed=5, towers=("lite0",))
    head: Head = replace(drawn, alignment=trained.alignment.fingerprint)
    return export_bundle(pack, replace(trained, head=head), tmp_path_factory.mktemp("mlp") / "bundle")


@pytest.fixture(scope="module")
def search(mlp_bundle: Bundle, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    store = open_store(f"file:{tmp_path_factory.mktemp('index')}")
    index_folder(gallery, mlp_bundle, store)
    search = Search(ModelRegistry(mlp_bundle), store)
    yield search
    search.close()


def test_score_pairs_returns_the_scores_of_a_search(mlp_bundle: Bundle, search: Search, gallery: Path) -> None:
    images = encode_images(mlp_bundle, {name: gallery / name for name in NAMES})
    texts = encode_texts(mlp_bundle, TEXTS)
    pairs = [(image, text) for image in range(len(NAMES)) for text in range(len(TEXTS)) if (image + text) % 3]
    row = np.array([images.row[NAMES[image]] for image, _ in pairs])
    text_row = np.array([text for _, text in pairs])
    scores = score_pairs(Reranker(mlp_bundle), images.vectors, texts, row, text_row)
    answers = [{r.path: r.score or 0.0 for r in search.query(Query(text=text, k=len(NAMES))).results} for text in TEXTS]
    expected = [answers[text][NAMES[image]] for image, text in pairs]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert np.std(scores) > 0.01


def test_rescored_metrics_use_the_order_of_a_search(
    mlp_bundle: Bundle, search: Search, gallery: Path, tmp_path: Path
) -> None:
    captions = [Caption(name, text) for name, text in zip(NAMES, TEXTS, strict=True)]
    store = open_store(f"file:{tmp_path}/index")
    figures = evaluate_retrieval(mlp_bundle, gallery, captions, store, bootstrap=Bootstrap(5)).figures
    ranks: dict[str, list[float]] = {"": [], "rescored.": []}
    for name, text in zip(NAMES, TEXTS, strict=True):
        results = search.query(Query(text=text, k=len(NAMES))).results
        ranks["rescored."] += [result.rank for result in results if result.path == name]
        by_cosine = sorted(results, key=lambda result: -result.similarity)
        ranks[""] += [rank for rank, result in enumerate(by_cosine, start=1) if result.path == name]
    assert ranks[""] != ranks["rescored."]
    for prefix, places in ranks.items():
        for figure, value in ranking_figures(np.array(places, np.float64)).items():
            assert figures[f"{prefix}{figure}"].value == pytest.approx(value), f"{prefix}{figure}"


def test_rescored_rank_breaks_ties_by_similarity_and_is_nan_for_unknown_images() -> None:
    candidates = Candidates(ids=["a", "b", "c"], similarity=np.array([0.9, 0.8, 0.7], np.float32))
    scores = np.array([0.5, 0.6, 0.5], np.float32)
    assert [rescored_rank(candidates, scores, own) for own in ("a", "b", "c")] == [2, 1, 3]
    assert np.isnan(rescored_rank(candidates, scores, "d"))


def test_invalid_caption_is_named_in_the_error(mlp_bundle: Bundle) -> None:
    with pytest.raises(DataError, match=r"the caption 'a\\tbell\\x07' is not a valid query"):
        encode_texts(mlp_bundle, ["a dog", "a\tbell\x07"])


def test_invalid_caption_is_rejected_before_images_are_read(mlp_bundle: Bundle, tmp_path: Path) -> None:
    captions = [Caption(NAMES[0], "a dog"), Caption(NAMES[1], "a bell\x07")]
    store = open_store(f"file:{tmp_path}/index")
    with pytest.raises(DataError, match="is not a valid query"):
        evaluate_retrieval(mlp_bundle, tmp_path / "nowhere", captions, store)
    with pytest.raises(DataError, match="is not a valid query"):
        evaluate_absence(mlp_bundle, tmp_path / "nowhere", captions)


def test_captions_beyond_the_shortlist_keep_their_cosine_rank(
    mlp_bundle: Bundle, gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sceneseek_evaluation.retrieval.DEFAULT_SHORTLIST", 1)
    captions = [Caption(name, text) for name, text in zip(NAMES, TEXTS, strict=True)]
    store = open_store(f"file:{tmp_path}/index")
    figures = evaluate_retrieval(mlp_bundle, gallery, captions, store, bootstrap=Bootstrap(5)).figures
    # A single candidate cannot be reordered, and all other images keep their cosine rank.
    assert figures["mrr"].value != 1
    assert figures["rescored.mrr"] == figures["mrr"]
