"""Queries to measure with: a file's, or sentences of our own."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import cycle, islice, product
from pathlib import Path

import numpy as np

from sceneseek.errors import DataError, InvalidRequest
from sceneseek.request import checked_query

_WHO = ("a dog", "two children", "an old man with a grey beard", "a group of people in bright jackets")
_WHAT = ("running", "sitting quietly", "playing with a red ball", "waiting for the next bus to come")
_WHERE = ("on a beach", "in the snow", "in front of a brick wall", "beside a lake with mountains behind it")


def read_queries(path: Path) -> list[str]:
    """The queries of a text file, one a line, or of the column `caption` of a TSV file.

    Lines that cannot be searched are passed over.

    Raises:
        DataError: the file cannot be read, or holds no query.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"the queries {path} cannot be read ({error})", "name another file") from error
    if lines and "caption" in lines[0].split("\t"):
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        lines = [row["caption"] or "" for row in rows]
    queries = list(_searchable(lines))
    if not queries:
        raise DataError(f"the file {path} holds no query", "write one a line, or a TSV with a column caption")
    return queries


def own_queries() -> list[str]:
    """Sentences of 6 to 20 words."""
    return [f"{who} {what} {where}" for who, what, where in product(_WHO, _WHAT, _WHERE)]


def drawn(queries: list[str], count: int, seed: int) -> list[str]:
    """So many queries in an order drawn by the seed; the same ones again only when there are no others."""
    order = np.random.default_rng(seed).permutation(len(queries))
    return [queries[i] for i in islice(cycle(order), count)]


def _searchable(lines: list[str]) -> Iterator[str]:
    for line in lines:
        try:
            yield checked_query(line)
        except InvalidRequest:
            continue
