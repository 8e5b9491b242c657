"""A language is measured over its own captions alone, and all count alike in the mean."""

from __future__ import annotations

import numpy as np

from sceneseek_evaluation.figures import Bootstrap, Positions, measure_by_language, names_by_language

SCORES = np.array([1.0, 0.0, 0.5, 0.5, 0.5, 9.0])
LANGUAGE = np.array(["ru", "ru", "de", "de", "de", ""])
NAMES = ("score",)


def measure(rows: Positions) -> dict[str, float]:
    assert len(rows), "figures of nothing are never asked for"
    return {"score": float(SCORES[rows].mean()), "other": 0.0}


def test_the_mean_counts_languages_and_not_captions() -> None:
    every = measure_by_language(measure, LANGUAGE, ["de", "ru"], NAMES)
    assert every(np.array([0, 2, 3, 5])) == {
        "score": 2.75,
        "other": 0.0,
        "de.score": 0.5,
        "ru.score": 1.0,
        "mean.score": 0.75,
    }


def test_without_languages_the_figures_are_those_of_all_captions() -> None:
    assert measure_by_language(measure, LANGUAGE, [], NAMES)(np.arange(6)) == measure(np.arange(6))
    assert names_by_language([], NAMES) == []


def test_a_replicate_without_a_language_is_left_out_of_its_interval_and_of_the_means() -> None:
    every = measure_by_language(measure, LANGUAGE, ["de", "ru"], NAMES)
    groups = np.array([0, 1, 2, 2, 2, 3])  # German has one image only, which a draw may miss
    figures = Bootstrap(50).figures(every(np.arange(6)), every, groups)
    assert (figures["de.score"].low, figures["de.score"].high) == (0.5, 0.5)
    assert figures["mean.score"].value == 0.5
    assert figures["mean.score"].low is not None


def test_a_language_without_rows_is_not_defined_and_neither_is_the_mean() -> None:
    found = measure_by_language(measure, LANGUAGE, ["de", "fr"], NAMES)(np.arange(6))
    assert np.isnan(found["fr.score"])
    assert np.isnan(found["mean.score"])
