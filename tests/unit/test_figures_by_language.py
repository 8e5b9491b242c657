"""Metrics by language: each language is measured on its own captions, and the mean weights languages equally."""

from __future__ import annotations

import numpy as np

from sceneseek_evaluation.figures import Bootstrap, Positions, measure_by_language, names_by_language

SCORES = np.array([1.0, 0.0, 0.5, 0.5, 0.5, 9.0])
LANGUAGE = np.array(["ru", "ru", "de", "de", "de", ""])
NAMES = ("score",)


def measure(rows: Positions) -> dict[str, float]:
    assert len(rows), "never called without rows"
    return {"score": float(SCORES[rows].mean()), "other": 0.0}


def test_mean_weights_languages_equally() -> None:
    by_language = measure_by_language(measure, LANGUAGE, ["de", "ru"], NAMES)
    assert by_language(np.array([0, 2, 3, 5])) == {
        "score": 2.75,
        "other": 0.0,
        "de.score": 0.5,
        "ru.score": 1.0,
        "mean.score": 0.75,
    }


def test_metrics_without_languages_cover_all_captions() -> None:
    assert measure_by_language(measure, LANGUAGE, [], NAMES)(np.arange(6)) == measure(np.arange(6))
    assert names_by_language([], NAMES) == []


def test_bootstrap_ignores_replicates_without_the_language() -> None:
    by_language = measure_by_language(measure, LANGUAGE, ["de", "ru"], NAMES)
    groups = np.array([0, 1, 2, 2, 2, 3])  # German has a single image, which a bootstrap sample can miss
    figures = Bootstrap(50).figures(by_language(np.arange(6)), by_language, groups)
    assert (figures["de.score"].low, figures["de.score"].high) == (0.5, 0.5)
    assert figures["mean.score"].value == 0.5
    assert figures["mean.score"].low is not None


def test_language_without_rows_and_mean_are_nan() -> None:
    metrics = measure_by_language(measure, LANGUAGE, ["de", "fr"], NAMES)(np.arange(6))
    assert np.isnan(metrics["fr.score"])
    assert np.isnan(metrics["mean.score"])
