"""The figures of an evaluation in each language of its captions, beside those of all captions.

The figure of a language is named ``LANGUAGE.figure``, such as ``pt-BR.recall@10``. ``mean.figure`` is the mean over the
languages, in which each counts alike; it is not defined where one of them is not. Captions without a language count in
the figures of all captions only. No language of BCP 47 has a code of four letters, so none is called ``mean``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sceneseek.captions import Caption
from sceneseek_evaluation.figures import Figure, Positions, written

MEAN = "mean"
Measure = Callable[[Positions], Mapping[str, float]]


def count_languages(captions: Iterable[Caption]) -> dict[str, int]:
    """The number of captions in each language, by its code, in the order of the codes."""
    counts = Counter(caption.language for caption in captions if caption.language)
    return dict(sorted(counts.items()))


def names_by_language(languages: Iterable[str], names: Sequence[str]) -> list[str]:
    """The names that figures have in each language and in the mean; none without languages."""
    codes = list(languages)
    return [f"{code}.{name}" for code in (*codes, MEAN) for name in names] if codes else []


def measure_by_language(
    measure: Measure, language: npt.NDArray[np.str_], languages: Iterable[str], names: Sequence[str]
) -> Measure:
    """The function that measures all rows, those of each language, and the mean of the latter.

    Args:
        measure: row numbers (any length but 0, repeats allowed) to figures by name.
        language: (N,) the code of each row, empty for none.
        languages: the codes to report.
        names: the figures that a language gets; NaN in a language without rows.
    """
    codes = list(languages)

    def measured(rows: Positions) -> dict[str, float]:
        found = dict(measure(rows))
        spoken = language[rows]
        for code in codes:
            own = rows[spoken == code]
            values = measure(own) if len(own) else dict.fromkeys(names, np.nan)
            found |= {f"{code}.{name}": values[name] for name in names}
        if codes:
            found |= {f"{MEAN}.{name}": float(np.mean([found[f"{c}.{name}"] for c in codes])) for name in names}
        return found

    return measured


def table_by_language(figures: Mapping[str, Figure], counts: Mapping[str, int], names: Sequence[str]) -> list[str]:
    """The lines of a table of some figures' values: a row for each language, and one for the mean."""
    head = ("language".ljust(max(map(len, ["language", *counts]))), "captions")
    lines = ["  ".join([*head, *names])]
    for code in (*counts, MEAN):
        count = f"{counts[code]:,}" if code in counts else ""
        values = [f"{written(figures[f'{code}.{name}'].value):>{len(name)}}" for name in names]
        lines.append("  ".join([f"{code:<{len(head[0])}}", f"{count:>{len(head[1])}}", *values]))
    return lines


def json_by_language(
    figures: Mapping[str, Figure], counts: Mapping[str, int], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """As JSON values: by language, ``n_queries`` and the figures; the mean as one more; empty without languages."""

    def values(code: str) -> dict[str, Any]:
        return {name: figures[f"{code}.{name}"].to_json() for name in names}

    found = {code: {"n_queries": count, **values(code)} for code, count in counts.items()}
    return found | {MEAN: values(MEAN)} if found else {}
