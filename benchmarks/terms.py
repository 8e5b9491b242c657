"""Searches with two terms: how many of the first ten pictures show what was searched for, judged by captions.

    python -m benchmarks.terms --bundle bundles/compact --index index --captions captions.tsv

A picture shows a thing if one of its captions names it. The things of a pair are together in some pictures and apart in
others. The index contains the pictures of the captions, identified by file name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import click
import numpy as np

from benchmarks.report import Figure, Report, Section, json_option
from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.options import bundle_option, index_option
from sceneseek.queries import Query
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek.tables import read_table
from sceneseek.terms import Term

_THINGS = {
    "people": "man woman boy girl child people person lady kid men women children guy baby",
    "water": "water ocean lake river pool sea wave",
    "snow": "snow snowy",
    "grass": "grass grassy field lawn",
    "a beach": "beach sand shore",
    "a dog": "dog puppy",
    "a bike": "bike bicycle cyclist biker motorcycle",
    "a ball": "ball football soccer tennis basketball",
    "a car": "car truck vehicle",
    "a hat": "hat cap helmet",
    "trees": "tree wood forest",
    "mountains": "mountain hill cliff rock",
    "a street": "street road sidewalk city",
}
_TOGETHER, _APART = 15, 25
_K = 10


@dataclass(frozen=True)
class _Pair:
    """Two things, and whether each file shows them, by file name."""

    first: str
    second: str
    shows: dict[str, tuple[bool, bool]]

    def shares(self, search: Search, query: Query) -> tuple[float, float, float, float]:
        """Shares of the results that show the first thing, the second, both, and the first without the second."""
        shown = [self.shows[Path(result.path or "").name] for result in search.query(query).results]
        first, second = np.array(shown, float).reshape(-1, 2).T

        return tuple(float(each.mean()) for each in (first, second, first * second, first * (1 - second)))  # type: ignore[return-value]


@click.command()
@bundle_option
@index_option
@click.option("--captions", type=click.Path(path_type=Path), required=True, help="A TSV with `image` and `caption`.")
@json_option
def terms(bundle: Path, index_url: str, captions: Path, json_file: Path | None) -> None:
    """Measure queries with positive and negative terms, compared with the same in words."""
    pairs = _pairs(captions)
    search = Search(ModelRegistry(Bundle.load(bundle), "cpu"), open_store(index_url, searching=True))
    without = {
        "X": lambda pair: Query(text=pair.first, k=_K),
        "X without Y": lambda pair: Query(text=f"{pair.first} without {pair.second}", k=_K),
        "X, -Y": lambda pair: Query(text=pair.first, terms=[Term(text=pair.second, weight=-1)], k=_K),
        "X, -Y:0.5": lambda pair: Query(text=pair.first, terms=[Term(text=pair.second, weight=-0.5)], k=_K),
    }
    together = {
        "X": lambda pair: Query(text=pair.first, k=_K),
        "X and Y": lambda pair: Query(text=f"{pair.first} and {pair.second}", k=_K),
        "X, Y": lambda pair: Query(text=pair.first, terms=[Term(text=pair.second)], k=_K),
        "X, Y:0.5": lambda pair: Query(text=pair.first, terms=[Term(text=pair.second, weight=0.5)], k=_K),
    }
    try:
        minus = _section(f"X without Y, {len(pairs)} pairs: share of the first {_K}", search, pairs, without)
        half = [pair for pair in pairs if pair.first < pair.second]
        plus = _section(f"X and Y, {len(half)} pairs: share of the first {_K}", search, half, together)
    finally:
        search.close()
    Report(sections=[minus, plus]).write(json_file)


def _section(title: str, search: Search, pairs: list[_Pair], queries: dict[str, Callable[[_Pair], Query]]) -> Section:
    section = Section(title)
    for name, query in queries.items():
        shares = np.mean([pair.shares(search, query(pair)) for pair in pairs], axis=0)
        for share, what in zip(shares, ("X", "Y", "both", "X alone"), strict=True):
            section.figures.append(Figure(f"{name}: {what}", "", [float(share)]))
    return section


def _pairs(captions: Path) -> list[_Pair]:
    words = defaultdict(list)
    for row in read_table(captions, "captions").rows:
        words[row.fields["image"]].append(
            {_singular(word) for word in re.findall(r"[a-z]+", row.fields["caption"].lower())}
        )
    mentions = {
        thing: {
            image: sum(bool(caption & {*map(_singular, forms.split())}) for caption in words_by_caption)
            for image, words_by_caption in words.items()
        }
        for thing, forms in _THINGS.items()
    }
    pairs = []
    for first, second in permutations(_THINGS, 2):
        counts = [(mentions[first][image], mentions[second][image]) for image in words]
        together = sum(min(pair) > 1 for pair in counts)
        apart = sum(one > 1 and not other for one, other in counts)
        if together >= _TOGETHER and apart >= _APART:
            shows = {Path(image).name: (one > 0, other > 0) for image, (one, other) in zip(words, counts, strict=True)}
            pairs.append(_Pair(first, second, shows))
    return pairs


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


if __name__ == "__main__":
    terms()
