"""The threshold of a match: chosen by its rule, written into a head and onto its card, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sceneseek.bundle import MatchThreshold
from sceneseek.errors import DataError
from sceneseek_evaluation.absence import ABSENCE_FIGURES, Asked, absence_figures
from sceneseek_evaluation.figures import Bootstrap
from sceneseek_export.heads import load_head, save_head
from sceneseek_training.cards import CARD
from sceneseek_training.threshold import choose_threshold, write_threshold
from tests.weights import drawn_head

BOOTSTRAP = Bootstrap(replicates=50)


def asked(present: Sequence[float], foreign: Sequence[float]) -> Asked:
    """Queries with these best scores, each of an image or a text of its own."""
    best = np.array([*present, *foreign], np.float32)
    return Asked(
        kind=np.repeat(["present", "foreign"], [len(present), len(foreign)]),
        best=best,
        own=np.full(len(best), np.nan, np.float32),
        group=np.arange(len(best)),
        language=np.repeat("", len(best)),
        images=len(present),
        missing=0,
    )


def test_separable_scores_get_the_highest_separating_threshold() -> None:
    assert choose_threshold(asked([0.6, 0.7, 0.9], [0.1, 0.3, 0.2]), BOOTSTRAP) == (0.6, 1.0)


def test_where_scores_overlap_the_threshold_lies_where_both_errors_are_rare_or_a_little_higher() -> None:
    rng = np.random.default_rng(0)
    queries = asked(rng.normal(0.7, 0.1, 2_000).clip(0, 1).tolist(), rng.normal(0.4, 0.1, 2_000).clip(0, 1).tolist())
    threshold, accuracy = choose_threshold(queries, BOOTSTRAP)
    assert 0.54 <= threshold <= 0.59
    assert accuracy == pytest.approx(0.93, abs=0.015)


def test_kinds_of_different_size_count_alike() -> None:
    rng = np.random.default_rng(1)
    present, foreign = rng.normal(0.7, 0.1, 200).clip(0, 1), rng.normal(0.4, 0.1, 4_000).clip(0, 1)
    threshold, _ = choose_threshold(asked(present.tolist(), foreign.tolist()), BOOTSTRAP)
    assert threshold < 0.62


@pytest.mark.parametrize(("present", "foreign"), [([0.9], []), ([], [0.1])])
def test_either_kind_missing_is_said(present: list[float], foreign: list[float]) -> None:
    with pytest.raises(DataError, match="captions and foreign texts"):
        choose_threshold(asked(present, foreign), BOOTSTRAP)


def test_scores_that_are_the_wrong_way_round_give_no_threshold() -> None:
    with pytest.raises(DataError, match="no threshold tells"):
        choose_threshold(asked([0.1, 0.2], [0.8, 0.9]), BOOTSTRAP)


def test_a_head_gets_its_threshold_and_its_card_a_section_however_often_it_is_written(tmp_path: Path) -> None:
    head = drawn_head("mlp", {"similarity": 1, "product": 4})
    save_head(head, tmp_path)
    weights = (tmp_path / "head.npz").read_bytes()
    (tmp_path / CARD).write_text("# Head\n\n## Found\n\nThis and that.\n", encoding="utf-8")
    for threshold in (0.4, 0.6):
        write_threshold(_written(threshold), tmp_path)
    match = load_head(tmp_path).match
    assert match is not None
    assert match.threshold == 0.6
    assert (tmp_path / "head.npz").read_bytes() == weights
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    assert card.startswith(
        "# Head\n\n## Found\n\nThis and that.\n\n## When a result matches\n\nFrom a score of 0.6 on."
    )
    assert card.count("## When a result matches") == 1


def test_a_section_in_the_middle_of_a_card_leaves_what_follows_it(tmp_path: Path) -> None:
    save_head(drawn_head("cosine", {}), tmp_path)
    (tmp_path / CARD).write_text("# Head\n\n## When a result matches\n\nOld.\n\n## Made with\n\nnumpy.\n")
    write_threshold(_written(0.5), tmp_path)
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    assert "Old." not in card
    assert card.index("## Made with\n\nnumpy.") < card.index("## When a result matches")


def _written(threshold: float) -> MatchThreshold:
    queries = asked([0.8, 0.9], [0.1, 0.2])
    match = MatchThreshold(threshold=threshold, source="captions and foreign texts")
    figures = {name: figure.to_json() for name, figure in absence_figures(queries, match, BOOTSTRAP).items()}
    assert set(figures) == set(ABSENCE_FIGURES)
    about = {"rule": "a rule", "n_images": 2, "n_queries": {"present": 2}, "data": [], "cite": "", "command": "x"}
    return replace(match, figures={**figures, **about, "seed": 0})
