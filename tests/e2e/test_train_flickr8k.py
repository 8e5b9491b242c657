"""The shipped alignment on unseen photographs: a part of the dev split of Flickr8k."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sceneseek.captions import Captions, read_split
from sceneseek_evaluation.retrieval import exact_ranks, ranking_figures
from sceneseek_export.alignment import Alignment
from sceneseek_export.packs import find_pack
from sceneseek_export.trained import shipped_alignment
from sceneseek_training.corpus import gather
from sceneseek_training.features import PackEncoder

pytestmark = pytest.mark.flickr8k
PACK = find_pack("compact")


def test_shipped_alignment_recall_meets_its_bounds_on_200_photographs(flickr8k: Path, tmp_path: Path) -> None:
    names = read_split(flickr8k / "split_dev.txt")[:200]
    corpus = gather("dev", flickr8k / "images", Captions.read(flickr8k / "captions.tsv"), names)
    alignment = Alignment.load(shipped_alignment(PACK))
    encoder = PackEncoder(PACK, tmp_path)
    encoded, kept = encoder.encode_images("dev", corpus.paths)
    assert len(kept) == 200
    images = alignment.image_joint(encoded.features, encoded.logits)
    texts = alignment.text_joint(encoder.encode_texts("captions", corpus.captions))
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    recall = ranking_figures(exact_ranks(images, texts, corpus.owner))
    assert recall["recall@1"] > 0.42
    assert recall["recall@10"] > 0.87

    similarity = images @ texts.T
    own = alignment.calibration.score(similarity[corpus.owner, np.arange(len(texts))]).mean()
    others = alignment.calibration.score(similarity.ravel()).mean()
    assert own > 0.45
    assert others < 0.15
