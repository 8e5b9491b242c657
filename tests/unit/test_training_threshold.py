"""Choosing the match threshold, and writing it to a head and its card."""

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


def queries_with(present: Sequence[float], foreign: Sequence[float]) -> Asked:
    """Queries with these best scores, each with its own image or text."""
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
    assert choose_threshold(queries_with([0.6, 0.7, 0.9], [0.1, 0.3, 0.2]), BOOTSTRAP) == (0.6, 1.0)


def test_overlapping_scores_get_a_threshold_that_balances_both_errors() -> None:
    rng = np.random.default_rng(0)
    queries = queries_with(
        rng.normal(0.7, 0.1, 2_000).clip(0, 1).tolist(), rng.normal(0.4, 0.1, 2_000).clip(0, 1).tolist()
    )
    threshold, accuracy = choose_threshold(queries, BOOTSTRAP)
    assert 0.54 <= threshold <= 0.59
    assert accuracy == pytest.approx(0.93, abs=0.015)


def test_kinds_of_different_size_have_equal_weight() -> None:
    rng = np.random.default_rng(1)
    present, foreign = rng.normal(0.7, 0.1, 200).clip(0, 1), rng.normal(0.4, 0.1, 4_000).clip(0, 1)
    threshold, _ = choose_threshold(queries_with(present.tolist(), foreign.tolist()), BOOTSTRAP)
    assert threshold < 0.62


@pytest.mark.parametrize(("present", "foreign"), [([0.9], []), ([], [0.1])])
def test_missing_present_or_foreign_queries_are_an_error(present: list[float], foreign: list[float]) -> None:
    with pytest.raises(DataError, match="captions and foreign texts"):
        choose_threshold(queries_with(present, foreign), BOOTSTRAP)


def test_inverted_scores_are_an_error() -> None:
    with pytest.raises(DataError, match="no threshold separates"):
        choose_threshold(queries_with([0.1, 0.2], [0.8, 0.9]), BOOTSTRAP)


def test_write_threshold_updates_the_head_and_its_card_section(tmp_path: Path) -> None:
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


def test_card_sections_after_the_threshold_are_kept(tmp_path: Path) -> None:
    save_head(drawn_head("cosine", {}), tmp_path)
    (tmp_path / CARD).write_text("# Head\n\n## When a result matches\n\nOld.\n\n## Made with\n\nnumpy.\n")
    write_threshold(_written(0.5), tmp_path)
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    assert "Old." not in card
    assert card.index("## Made with\n\nnumpy.") < card.index("## When a result matches")


def _written(threshold: float) -> MatchThreshold:
    queries = queries_with([0.8, 0.9], [0.1, 0.2])
    match = MatchThreshold(threshold=threshold, source="captions and foreign texts")
    figures = {name: figure.to_json() for name, figure in absence_figures(queries, match, BOOTSTRAP).items()}
    assert set(figures) == set(ABSENCE_FIGURES)
    about = {"rule": "a rule", "n_images": 2, "n_queries": {"present": 2}, "data": [], "cite": "", "command": "x"}
    return replace(match, figures={**figures, **about, "seed": 0})
