"""Metrics of queries that should or should not find a match, and the generation of nonsense queries."""

from __future__ import annotations

import numpy as np
import pytest

from sceneseek.bundle import MatchThreshold
from sceneseek.request import checked_query
from sceneseek_evaluation.absence import Asked, absence_figures, area_under_curve, draw_nonsense
from sceneseek_evaluation.figures import Bootstrap

ASKED = Asked(
    kind=np.array(["present", "present", "foreign", "nonsense", "absent", "absent"]),
    best=np.array([0.9, 0.4, 0.6, 0.1, 0.7, 0.3], np.float32),
    own=np.array([0.8, np.nan, np.nan, np.nan, np.nan, np.nan], np.float32),
    group=np.array([0, 1, 2, 3, 0, 1]),
    language=np.array(["en", "ru", "", "", "en", "ru"]),
    images=2,
    missing=0,
)
BOOTSTRAP = Bootstrap(replicates=20)


def test_rates_are_shares_of_queries_whose_best_score_reaches_the_threshold() -> None:
    figures = absence_figures(ASKED, MatchThreshold(threshold=0.6, source="test"), BOOTSTRAP)
    values = {name: figure.value for name, figure in figures.items()}
    assert values == {
        "present.match_rate": 0.5,
        "own.match_rate": 1.0,
        "absent.false_match_rate": 0.5,
        "foreign.false_match_rate": 1.0,
        "nonsense.false_match_rate": 0.0,
        "absent.auc": 0.75,
        "foreign.auc": 0.5,
        "nonsense.auc": 1.0,
    }


def test_language_metrics_use_the_captions_of_that_language() -> None:
    match = MatchThreshold(threshold=0.6, source="test")
    figures = absence_figures(ASKED, match, BOOTSTRAP, ["en", "ru"])
    values = {name: figure.value for name, figure in figures.items() if name.startswith(("en.", "ru.", "mean."))}
    assert values == {
        "en.present.match_rate": 1.0,
        "en.own.match_rate": 1.0,
        "en.absent.false_match_rate": 1.0,
        "en.absent.auc": 1.0,
        "ru.present.match_rate": 0.0,
        "ru.own.match_rate": None,
        "ru.absent.false_match_rate": 0.0,
        "ru.absent.auc": 1.0,
        "mean.present.match_rate": 0.5,
        "mean.own.match_rate": None,
        "mean.absent.false_match_rate": 0.5,
        "mean.absent.auc": 1.0,
    }


def test_rates_are_undefined_without_a_threshold_and_auc_is_defined() -> None:
    figures = absence_figures(ASKED, None, BOOTSTRAP)
    assert figures["present.match_rate"].value is None
    assert figures["nonsense.auc"].value == 1.0


def test_auc_counts_ties_half_and_is_nan_without_scores() -> None:
    scores = np.array([0.5], np.float32)
    assert area_under_curve(scores, scores) == 0.5
    assert np.isnan(area_under_curve(scores, scores[:0]))


def test_nonsense_is_deterministic_and_searchable() -> None:
    texts = ["A dog runs", "Two men play"]
    nonsense = draw_nonsense(40, texts, seed=3)
    assert nonsense == draw_nonsense(40, texts, seed=3)
    assert nonsense != draw_nonsense(40, texts, seed=4)
    assert [checked_query(text) for text in nonsense] == nonsense


def test_a_quarter_of_the_nonsense_consists_of_caption_words() -> None:
    words = {"a", "dog", "runs", "two", "men", "play"}
    nonsense = draw_nonsense(40, ["A dog runs", "Two men play"], seed=0)
    assert sum(set(text.split()) <= words for text in nonsense) == 10


@pytest.mark.parametrize("texts", [[], ["42", "?!"]])
def test_nonsense_has_the_full_count_for_captions_without_words(texts: list[str]) -> None:
    assert len(draw_nonsense(9, texts, seed=0)) == 9
